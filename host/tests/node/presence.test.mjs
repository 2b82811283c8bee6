// Viewers of a lead, as other clients see them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROLES, Server, events, heard, lose, until } from './support.mjs';

const settings = '[presence]\ngrace = "2s"\ninterval = "200ms"\n\n';
const names = ({ users }) => users.map(({ name }) => name);

for (const transports of [['websocket'], ['polling']]) {
  test(`stock clients get the viewers of a lead as they join, leave and are lost (${transports})`, async (t) => {
    const server = await Server.start(t, { settings });
    const [admin, manager, sales] = await Promise.all(ROLES.map((role) => server.person(role)));
    const lead = await admin.api('POST', '/api/leads', { title: 'Roof' });
    const look = async (person) => {
      const socket = await server.socket(person.token, { transports, reconnectionDelay: 50 });
      socket.emit('lead:subscribe', { leadId: lead.id });
      await heard(socket, 'lead:viewers');
      return socket;
    };
    const told = (socket, ...expected) =>
      heard(socket, 'lead:viewers', (list) => JSON.stringify(names(list)) === JSON.stringify(expected));

    const first = await look(admin);
    assert.deepEqual(events(first, 'lead:viewers'), [
      { leadId: lead.id, users: [{ id: admin.user.id, name: admin.user.name }], total: 1 },
    ]);
    assert.deepEqual(first.heard.slice(1).map(({ name }) => name), ['lead:subscribed', 'lead:viewers']);

    const second = await look(manager);
    await told(first, 'Admin User', 'Manager User');
    second.disconnect();
    const before = events(first, 'lead:viewers').length;
    const alone = await until('the one who left to be gone', () => events(first, 'lead:viewers')[before]);
    assert.deepEqual(names(alone), ['Admin User']);

    // The connection breaks and the socket reconnects: no viewer list is sent.
    const third = await look(sales);
    await told(first, 'Admin User', 'Sales User');
    const lists = events(first, 'lead:viewers').length;
    third.heard.length = 0;
    await lose(third);
    await heard(third, 'connected');
    await told(third, 'Admin User', 'Sales User');
    const fourth = await look(manager);
    await told(first, 'Admin User', 'Manager User', 'Sales User');
    assert.equal(events(first, 'lead:viewers').length, lists + 1);

    const online = async () => names(await admin.api('GET', '/api/presence'));
    assert.deepEqual(await online(), ['Admin User', 'Manager User', 'Sales User']);
    assert.deepEqual(names(await sales.api('GET', `/api/presence?leadId=${lead.id}`)), await online());
    for (const socket of [third, fourth]) socket.disconnect();
    await told(first, 'Admin User');
    await until('the others to be offline', async () => (await online()).length === 1);
  });
}

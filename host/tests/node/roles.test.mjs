// One change, four roles: the event that each role gets, and that no other way to the lead discloses more.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROLES, Server, events, heard } from './support.mjs';

const SECRETS = { email: 'mayor@secret.example', phone: '+49 30 555 0199', valueCents: 98765431 };
const plugins = {
  'redact-contact': '[config]\nroles = ["VIEWER"]\nfields = ["email", "phone", "valueCents"]\n',
};

for (const transports of [['websocket'], ['polling']]) {
  test(`each role gets one lead:updated, shaped like its reads of the lead (${transports})`, async (t) => {
    const server = await Server.start(t, { plugins });
    const people = await Promise.all(ROLES.map((role) => server.person(role)));
    const [admin] = people;
    const lead = await admin.api('POST', '/api/leads', { title: 'Roof' });
    for (const person of people) {
      person.socket = await server.socket(person.token, { transports });
      // A member of both rooms of the event gets one copy.
      person.socket.emit('lead:subscribe', { leadId: lead.id });
      await heard(person.socket, 'lead:subscribed');
    }

    await admin.api('PATCH', `/api/leads/${lead.id}`, { ...SECRETS, status: 'QUALIFIED' });
    await admin.api('PATCH', `/api/leads/${lead.id}`, { title: 'The mark that ends the test' });

    for (const { role, socket, api } of people) {
      const mark = await heard(socket, 'lead:updated', ({ lead }) => lead.title.startsWith('The mark'));
      const [told, ...more] = events(socket, 'lead:updated').filter(({ seq }) => seq < mark.seq);
      assert.deepEqual(more, [], `${role} got one copy`);
      const visible = role !== 'VIEWER';

      const { lead: seen } = told;
      for (const [field, value] of Object.entries(SECRETS)) {
        if (visible) assert.equal(seen[field], value, `${role} sees ${field}`);
        assert.equal(told.changes.includes(field), visible, `${role} is told that ${field} changed`);
      }
      assert.ok(told.changes.includes('status'));

      const read = await api('GET', `/api/leads/${lead.id}`);
      assert.deepEqual(read, mark.lead, `${role} reads the same as in the event`);
      const listed = await api('GET', '/api/leads');
      assert.deepEqual(listed.items, [read], `${role} lists the same as it reads`);
      const history = await api('GET', `/api/leads/${lead.id}/history`);
      const activities = await api('GET', `/api/leads/${lead.id}/activities`);
      assert.equal(activities.items[0].type, 'STATUS_CHANGE');
      for (const said of [socket.heard, read, listed, history, activities]) {
        const text = JSON.stringify(said);
        const leaks = Object.values(SECRETS).filter((secret) => text.includes(String(secret)));
        if (!visible) assert.deepEqual(leaks, [], `${role} finds nothing in ${text}`);
      }
      assert.equal(JSON.stringify(history).includes(SECRETS.email), visible, `${role} and the history`);
    }
  });
}

test('a hidden field cannot be found by searching, filtering or sorting', async (t) => {
  const server = await Server.start(t, { plugins });
  const [admin, viewer] = await Promise.all(['ADMIN', 'VIEWER'].map((role) => server.person(role)));
  const lead = await admin.api('POST', '/api/leads', { title: 'Roof', ...SECRETS });
  const found = async ({ api }, q) => (await api('GET', `/api/leads?q=${encodeURIComponent(q)}`)).items.length;
  assert.equal(await found(admin, SECRETS.email), 1);
  assert.equal(await found(viewer, SECRETS.email), 0);
  assert.equal(await found(viewer, 'Roof'), 1);

  const sorted = await server.call('GET', '/api/leads?sort=-valueCents', { token: viewer.token });
  assert.deepEqual([sorted.status, sorted.body.code], [403, 'field_hidden']);
  await admin.api('GET', '/api/leads?sort=-valueCents');

  const etag = await server.call('GET', `/api/leads/${lead.id}`, { token: viewer.token });
  assert.equal(etag.headers.get('etag'), `"${lead.version}"`);
});

test('acks of socket commands are shaped like reads', async (t) => {
  const server = await Server.start(t, {
    plugins: { 'redact-contact': '[config]\nroles = ["VIEWER", "SALES"]\nfields = ["phone"]\n' },
  });
  const sales = await server.person('SALES');
  const socket = await server.socket(sales.token);
  const answer = await socket.emitWithAck('lead:create', { title: 'Roof', email: 'a@b.example', phone: SECRETS.phone });
  assert.equal(answer.ok, true, JSON.stringify(answer));
  assert.equal(answer.lead.email, 'a@b.example');
  assert.deepEqual(answer.lead, await sales.api('GET', `/api/leads/${answer.lead.id}`));
  assert.equal(JSON.stringify([answer, socket.heard]).includes(SECRETS.phone), false);
  const refused = await socket.emitWithAck('lead:update', { leadId: answer.lead.id, patch: { colour: 'red' } });
  assert.deepEqual([refused.ok, refused.error.code, refused.error.errors[0].field], [false, 'invalid', 'colour']);
});

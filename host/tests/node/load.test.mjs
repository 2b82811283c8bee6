// Many writers and listeners: every socket gets all of its events, in order, once.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROLES, Server, until } from './support.mjs';

const WRITERS = 32;
const LISTENERS = 50;
const CHANGES = process.env.CI ? 10_000 : 2_000;
const LEADS = 40;

test(`${WRITERS} writers make ${CHANGES} changes and ${LISTENERS} sockets see each, in order, once`, async (t) => {
  const plugins = { 'redact-contact': '[config]\nroles = ["VIEWER"]\nfields = ["email"]\n' };
  const server = await Server.start(t, { plugins });
  const people = await Promise.all(ROLES.map((role) => server.person(role)));
  const [admin] = people;
  const leads = [];
  for (let number = 0; number < LEADS; number += 1) {
    leads.push(await admin.api('POST', '/api/leads', { title: `Lead ${number}`, email: 'a@b.example' }));
  }

  const listeners = await Promise.all(
    Array.from({ length: LISTENERS }, async (_, number) => {
      const { role, token } = people[number % people.length];
      const transports = number % 5 === 0 ? ['polling'] : ['websocket'];
      const socket = await server.socket(token, { transports });
      const from = socket.heard.find(({ name }) => name === 'connected').data.seq;
      // Only names and seqs: half a million payloads would need too much memory.
      socket.offAny();
      const listener = { role, from, follows: number % 2 === 0, told: [], leaks: 0 };
      socket.onAny((name, data) => {
        if (data.seq === undefined || name === 'connected') return;
        listener.told.push([data.seq, name]);
        if (role === 'VIEWER' && data.lead?.email) listener.leaks += 1;
      });
      socket.on('disconnect', (reason) => (listener.dropped = reason));
      if (listener.follows) {
        for (const { id } of leads) await socket.emitWithAck('lead:subscribe', { leadId: id });
      }
      return listener;
    }),
  );

  // A status change also writes an activity: two events.
  const statuses = ['NEW', 'CONTACTED', 'QUALIFIED', 'PROPOSAL'];
  let made = 0;
  const write = async () => {
    while (made < CHANGES) {
      const number = (made += 1);
      const { id } = leads[number % LEADS];
      if (number % 10 === 0) await admin.api('POST', `/api/leads/${id}/activities`, { type: 'NOTE', body: `${number}` });
      else if (number % 10 === 1) await admin.api('PATCH', `/api/leads/${id}`, { status: statuses[(Math.floor(number / LEADS) + 1) % 4] });
      else if (number % 10 === 2) await admin.api('POST', '/api/leads', { title: `New lead ${number}` });
      else await admin.api('PATCH', `/api/leads/${id}`, { title: `Change ${number}` });
    }
  };
  await Promise.all(Array.from({ length: WRITERS }, write));

  const last = await admin.api('POST', '/api/leads', { title: 'The last one' });
  const probe = await server.socket(admin.token);
  const head = probe.heard.find(({ name }) => name === 'connected').data.seq;
  assert.ok(last.id && head > CHANGES);
  const behind = () => listeners.filter(({ told, dropped }) => !dropped && told.at(-1)?.[0] !== head);
  const progress = () => behind().map(({ role, told }) => `${role} at ${told.at(-1)?.[0]} of ${head}`);
  await until(progress, () => behind().length === 0, 120_000);

  const names = new Map(listeners.find(({ follows }) => follows).told);
  for (const { role, from, follows, told, leaks, dropped } of listeners) {
    assert.equal(dropped, undefined, `a ${role} was dropped`);
    assert.equal(leaks, 0);
    // Sockets that follow every lead get every seq; the others all except activities.
    const all = Array.from({ length: head - from }, (_, at) => from + 1 + at);
    const expected = follows ? all : all.filter((seq) => !names.get(seq).startsWith('activity:'));
    assert.deepEqual(told.map(([seq]) => seq), expected);
  }
});

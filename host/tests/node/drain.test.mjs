// A restart with many clients: they are disconnected one after the other, and the next process admits them at a limited rate.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { io } from 'socket.io-client';
import { Server, resume, until } from './support.mjs';

const SOCKETS = 2000;
/** Maximum number of reconnects per second. */
const MOST = SOCKETS / 10;

test(`${SOCKETS} sockets reconnect after SIGTERM, at most a tenth of them per second, and miss no event`, async (t) => {
  // All belong to one user and one address.
  const settings = '[limits]\nconnections_per_user = 100000\nconnections_per_address = 100000\n';
  const server = await Server.start(t, { settings });
  const [admin, viewer] = await Promise.all(['ADMIN', 'VIEWER'].map((role) => server.person(role)));
  const { host } = new URL(server.url);
  const sockets = [];
  for (let at = 0; at < SOCKETS; at += 100) {
    await Promise.all(Array.from({ length: 100 }, async () => sockets.push(await open(server, viewer.token))));
  }
  t.after(() => sockets.forEach(({ socket }) => socket.disconnect()));
  const lead = await admin.api('POST', '/api/leads', { title: 'Before' });
  await until('word of the lead', () => sockets.every(({ seqs }) => seqs.length === 1));

  const { process: old } = server;
  let written = 1;
  const writing = (async () => {
    // Events written during the shutdown are also for sockets that are already disconnected.
    while (old.exitCode === null) {
      const answer = await server.call('PATCH', `/api/leads/${lead.id}`, { token: admin.token, body: { title: `Change ${written}` } }).catch(() => null);
      if (answer?.status === 200) written += 1;
      await new Promise((fulfil) => setTimeout(fulfil, 1000));
    }
  })();
  await server.end('SIGTERM');
  await writing;
  assert.equal(old.exitCode, 0, server.log);
  const stopped = server.log;
  await server.serve(host);
  const back = () => sockets.filter(({ greetings }) => greetings.length >= 2).length;
  await until(() => `all to come back, ${back()} have`, () => back() === SOCKETS, 120_000);
  await admin.api('PATCH', `/api/leads/${lead.id}`, { title: 'After' });
  await until('word of the last change', () => sockets.every(({ seqs }) => seqs.length >= written + 1), 60_000);

  for (const { greetings, seqs, reasons, told } of sockets) {
    assert.deepEqual(greetings.map(({ recovered }) => recovered), [false, true]);
    assert.deepEqual(seqs, seqs.map((_, at) => at + 1), 'each once, in order');
    assert.equal(reasons.length, 1);
    assert.match(reasons[0], /^transport (close|error)$/);
    assert.equal(told, 1, 'server:draining');
  }
  const returns = peak(sockets.map(({ greetings }) => Date.parse(greetings[1].timestamp)));
  const partings = peak([...stopped.matchAll(/^(\S+Z) .*server shutting down/gm)].map(([, moment]) => Date.parse(moment)));
  console.log(`${SOCKETS} sockets: at most ${partings} left and ${returns} came back in a second`);
  assert.ok(returns <= MOST, `${returns} came back in a second`);
  assert.ok(partings > 0 && partings <= MOST, `${partings} left in a second`);
});

async function open(server, token) {
  const socket = io(server.url, { forceNew: true, transports: ['websocket'], auth: { token } });
  resume(socket);
  const client = { socket, greetings: [], seqs: [], reasons: [], told: 0 };
  socket.on('connected', (greeting) => client.greetings.push(greeting));
  socket.on('server:draining', () => (client.told += 1));
  socket.on('disconnect', (reason) => client.reasons.push(reason));
  for (const name of ['lead:created', 'lead:updated']) socket.on(name, ({ seq }) => client.seqs.push(seq));
  await until('a greeting', () => client.greetings.length, 60_000);
  return client;
}

/** The largest number of these moments within one second. */
function peak(moments) {
  const sorted = [...moments].sort((left, right) => left - right);
  let first = 0;
  let most = 0;
  sorted.forEach((moment, at) => {
    while (sorted[first] <= moment - 1000) first += 1;
    most = Math.max(most, at - first + 1);
  });
  return most;
}

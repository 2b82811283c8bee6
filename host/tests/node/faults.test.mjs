// Faults of the underlying Socket.IO stack, one test per fault: none of them reaches a client.
//
// Some are tested elsewhere:
//   a packet that a full queue drops silently          socket/commands.rs, a_burst_beyond_every_queue_size_…
//   a full queue that starves the heartbeat            socket/commands.rs, a_slow_reader_that_answers_pings_…
//   names that Socket.IO reserves                      socket/commands.rs, reserved_socket_io_names_are_never_sent
//   packets sent before `connected`                    socket/commands.rs, connected_carries_the_user_…
//   frames over the limit                              socket/commands.rs, frames_over_the_limit_are_refused
//   a request head that never arrives                  ops/listener.rs, an_incomplete_request_head_times_out
//   a transport closed so that its client is stranded  sessions.test.mjs, a logout closes the socket …
//   a stopping server that strands its clients         sessions.test.mjs, clients of a stopping server …
//   a session stuck between two transports             protocol.test.mjs, a WebSocket that is lost after the probe …

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { Line, Polling } from './raw.mjs';
import { Server, events, heard, resume, until } from './support.mjs';

/** Changes one lead a given number of times, several changes concurrently. */
async function change(api, lead, count, body = {}) {
  let made = 0;
  const write = async () => {
    while (made < count) await api('PATCH', `/api/leads/${lead.id}`, { title: `Change ${(made += 1)}`, ...body });
  };
  await Promise.all(Array.from({ length: 8 }, write));
}

const residentKib = (server) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.process.pid}/status`, 'utf8'))[1]);

test('stalled readers delay no other client, are disconnected, and free their memory', async (t) => {
  const server = await Server.start(t, { settings: '[socket]\nstall_timeout = "2s"\n' });
  const [admin, viewer] = await Promise.all(['ADMIN', 'VIEWER'].map((role) => server.person(role)));
  const lead = await admin.api('POST', '/api/leads', { title: 'Roof' });
  const healthy = await server.socket(viewer.token, { transports: ['websocket'] });
  // The kernel buffers some MB per connection: every client is sent twice that.
  const [readers, changes, description] = [10, 450, '€'.repeat(10_000)];
  const cut = () => server.log.split('it stopped reading').length - 1;
  const round = async () => {
    const stalled = await Promise.all(Array.from({ length: readers }, () => Line.connect(server, viewer.token)));
    for (const { ws } of stalled) ws.pause();
    const goal = cut() + readers;
    healthy.heard.length = 0;
    await change(admin.api, lead, changes - 1, { description });
    await change(admin.api, lead, 1, { description: null });
    await until('the healthy one to have it all', () => events(healthy, 'lead:updated').length === changes);
    await until('the others to be cut', () => cut() === goal);
    for (const line of stalled) {
      line.ws.resume();
      await line.closed();
      assert.ok(line.frames.filter((frame) => frame.includes('"lead:updated"')).length < changes);
    }
    return residentKib(server);
  };
  const first = await round();
  const second = await round();
  assert.ok(second - first < 10 * 1024, `${first} KiB, then ${second} KiB`);
  assert.ok(healthy.connected);
});

describe('faults of the stack', { concurrency: true }, () => {
  for (const transports of [['websocket'], ['polling']]) {
    test(`a burst of 1,000 events reaches a healthy client complete and in order (${transports})`, async (t) => {
      const server = await Server.start(t);
      const [admin, viewer] = await Promise.all(['ADMIN', 'VIEWER'].map((role) => server.person(role)));
      const socket = await server.socket(viewer.token, { transports });
      resume(socket);
      const lead = await admin.api('POST', '/api/leads', { title: 'Roof' });
      await heard(socket, 'lead:created');
      // Disconnected during the changes, it gets them as fast as possible afterwards.
      socket.disconnect();
      await change(admin.api, lead, 1000);
      socket.connect();
      await heard(socket, 'sync:done');
      const seqs = events(socket, 'lead:updated').map(({ seq }) => seq);
      assert.deepEqual(seqs, Array.from({ length: 1000 }, (_, at) => at + 2));
      assert.equal(events(socket, 'connected').at(-1).recovered, true);
    });
  }

  for (const transports of [['websocket'], ['polling']]) {
    test(`5,000 packets of one client are handled in the order of sending (${transports})`, async (t) => {
      const server = await Server.start(t, { settings: '[socket]\ninbound_packets = 8192\n[limits]\nevents_burst = 10000\n' });
      const { token } = await server.person('VIEWER');
      const socket = await server.socket(token, { transports });
      const acks = [];
      for (let number = 0; number < 5000; number += 1) {
        socket.emit('lead:unsubscribe', { leadId: `lead-${number}` }, ({ leadId }) => acks.push(leadId));
      }
      await until(() => `5000 acks, got ${acks.length}`, () => acks.length === 5000, 60_000);
      const sent = Array.from({ length: 5000 }, (_, number) => `lead-${number}`);
      assert.deepEqual(acks, sent);
      assert.deepEqual(events(socket, 'lead:unsubscribed').map(({ leadId }) => leadId), sent);
    });
  }

  test('a session that ends during a poll is closed at once, and the reconnecting client is refused', async (t) => {
    const server = await Server.start(t);
    const person = await server.person('SALES');
    const session = await Polling.connect(server, person.token);
    const waiting = session.poll();
    const stock = await server.socket(person.token, { transports: ['polling'] });
    const refusals = [];
    stock.on('connect_error', ({ message }) => refusals.push(message));
    const answer = await server.call('POST', '/api/auth/logout', { body: { refreshToken: person.refreshToken } });
    assert.equal(answer.status, 204);
    assert.ok([200, 400].includes((await waiting).status));
    await session.ended();
    await until('the stock client to be refused', () => refusals.length);
    assert.equal(refusals[0], 'Invalid authentication token');
  });

  test('the transport of a refused client closes within seconds', async (t) => {
    const server = await Server.start(t);
    const [line, polling] = await Promise.all([Line.open(server), Polling.open(server)]);
    const begin = Date.now();
    line.send('40{"token":"wrong"}');
    await polling.post('40{"token":"wrong"}');
    assert.equal(await line.next(), '44{"message":"Invalid authentication token"}');
    await Promise.all([line.closed(), polling.ended()]);
    // After `connect_timeout`, which is 5 s; the stack's own is 45 s.
    assert.ok(Date.now() - begin < 15_000, `${Date.now() - begin} ms`);
  });

  test('a client that reconnects beyond the retention of the log gets sync:reset and continues live', async (t) => {
    const server = await Server.start(t, { settings: '[log]\nkeep_events = 1000\n' });
    const [admin, viewer] = await Promise.all(['ADMIN', 'VIEWER'].map((role) => server.person(role)));
    const sockets = await Promise.all(
      [['websocket'], ['polling']].map((transports) => server.socket(viewer.token, { transports })),
    );
    const lead = await admin.api('POST', '/api/leads', { title: 'Roof' });
    for (const socket of sockets) {
      resume(socket);
      await heard(socket, 'lead:created');
      // The last seq that it has seen is the oldest in the log.
      Object.assign(socket.auth, { since: 1, epoch: events(socket, 'lead:created')[0].epoch });
      socket.disconnect();
    }
    await change(admin.api, lead, 1100);
    await until('the log to be pruned', async () => {
      const { status } = await server.call('GET', '/api/events/2/explain?role=VIEWER', { token: admin.token });
      return status === 404;
    });
    for (const socket of sockets) {
      socket.heard.length = 0;
      socket.connect();
      const { seq, epoch } = await heard(socket, 'sync:reset');
      const [greeting] = events(socket, 'connected');
      assert.deepEqual([greeting.recovered, greeting.seq, greeting.epoch], [false, seq, epoch]);
      assert.equal(seq, 1101);
    }
    await admin.api('PATCH', `/api/leads/${lead.id}`, { title: 'Afterwards' });
    for (const socket of sockets) {
      await heard(socket, 'lead:updated', ({ lead }) => lead.title === 'Afterwards');
      assert.deepEqual(events(socket, 'lead:updated').map(({ seq }) => seq), [1102], 'no event that it has to fetch again');
      // From there on, missed events can be replayed.
      socket.io.engine.close();
    }
    await admin.api('PATCH', `/api/leads/${lead.id}`, { title: 'Once more' });
    for (const socket of sockets) {
      await heard(socket, 'lead:updated', ({ lead }) => lead.title === 'Once more');
      assert.equal(events(socket, 'connected').at(-1).recovered, true);
      assert.deepEqual(events(socket, 'lead:updated').map(({ seq }) => seq), [1102, 1103]);
    }
  });
});

// Stock clients whose token expires, whose session ends or whose connection is lost.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { Server, events, heard, resume, until } from './support.mjs';

const guide = readFileSync(new URL('guide/socketio-client-guide.md', import.meta.url), 'utf8');
const errorHandling = /^## Error Handling\n\n```javascript\n([^]*?)^```$/m.exec(guide)[1];
const brief = { settings: '[auth]\naccess_token_ttl = "3s"\n' };

/** Not a wait for an event: paces the writes. */
const pause = () => new Promise((fulfil) => setTimeout(fulfil, 50));

/** The guide's error handling, unchanged, around a socket; returns how often a token was requested. */
function followTheGuide(server, socket, refreshToken) {
  const asked = { refreshToken: 0 };
  const silent = { error() {}, log() {} };
  const refresh = async () => {
    asked.refreshToken += 1;
    const { body } = await server.call('POST', '/api/auth/refresh', { body: { refreshToken } });
    refreshToken = body.refreshToken;
    return body.accessToken;
  };
  new Function('socket', 'refreshToken', 'console', errorHandling)(socket, refresh, silent);
  return asked;
}

// Tests that take several token lifetimes, run concurrently.
describe('token lifetimes', { concurrency: true }, () => {
  for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
    test(`the guide's code keeps a socket connected over five token lifetimes (${transports})`, async (t) => {
      const server = await Server.start(t, brief);
      const sales = await server.person('SALES');
      const socket = await server.socket(sales.token, { transports });
      const asked = followTheGuide(server, socket, sales.refreshToken);
      resume(socket);
      const reasons = [];
      socket.on('disconnect', (reason) => reasons.push(reason));

      const lead = await socket.emitWithAck('lead:create', { title: 'Roof' });
      socket.emit('lead:subscribe', { leadId: lead.lead.id });
      await heard(socket, 'lead:subscribed');
      let written = 0;
      // Five tokens have expired when the sixth one is in use.
      while (asked.refreshToken < 5 || !socket.connected) {
        const writer = await server.login('ADMIN');
        const path = `/api/leads/${lead.lead.id}/activities`;
        const body = { type: 'NOTE', body: `note ${(written += 1)}` };
        await server.ok('POST', path, { token: writer.accessToken, body });
        await pause();
      }

      const notes = () => events(socket, 'activity:created').map(({ activity }) => activity.body);
      await until(() => `${written} notes, heard ${notes().length}`, () => notes().length >= written);
      const expected = Array.from({ length: written }, (_, at) => `note ${at + 1}`);
      assert.deepEqual(notes(), expected, 'each once, in order');
      assert.ok(reasons.length >= 5, `${reasons}`);
      for (const reason of reasons) assert.match(reason, /^transport (close|error)$/);
      const greetings = events(socket, 'connected').slice(1);
      assert.ok(greetings.every(({ recovered }) => recovered), 'each return went on where the last one ended');
      const expiries = new Set(events(socket, 'connected').map(({ tokenExpiresAt }) => tokenExpiresAt));
      assert.ok(expiries.size >= 6, `${[...expiries]}`);
    });
  }

  test('a client that replaces its token in time is not disconnected', async (t) => {
    const server = await Server.start(t, brief);
    const sales = await server.person('SALES');
    const socket = await server.socket(sales.token);
    let left = 0;
    socket.on('disconnect', () => (left += 1));
    let { refreshToken } = sales;
    const refresh = async () => {
      const { body } = await server.call('POST', '/api/auth/refresh', { body: { refreshToken } });
      refreshToken = body.refreshToken;
      socket.emit('auth:refresh', { token: body.accessToken });
    };
    socket.on('auth:expiring', refresh);
    // Most likely sent before the listener was added.
    await refresh();
    await until('five token lifetimes', () => events(socket, 'auth:refreshed').length >= 10, 60_000);
    assert.equal(left, 0);
  });
});

for (const transports of [['websocket'], ['polling']]) {
  test(`a logout closes the socket, and its reconnects are refused (${transports})`, async (t) => {
    const server = await Server.start(t);
    const sales = await server.person('SALES');
    const socket = await server.socket(sales.token, { transports });
    const reasons = [];
    const refusals = [];
    socket.on('disconnect', (reason) => reasons.push(reason));
    socket.on('connect_error', (error) => refusals.push(error.message));
    const answer = await server.call('POST', '/api/auth/logout', { body: { refreshToken: sales.refreshToken } });
    assert.equal(answer.status, 204);
    await until('the end', () => reasons.length, 1000);
    await until('a refusal', () => refusals.length);
    assert.match(reasons[0], /^transport (close|error)$/);
    assert.equal(refusals[0], 'Invalid authentication token');
  });
}

test('a client that lost its connection resumes with its subscriptions', async (t) => {
  const server = await Server.start(t);
  const [admin, viewer] = await Promise.all(['ADMIN', 'VIEWER'].map((role) => server.person(role)));
  const lead = await admin.api('POST', '/api/leads', { title: 'Roof' });
  const socket = await server.socket(viewer.token, { transports: ['websocket'] });
  resume(socket);
  socket.emit('lead:subscribe', { leadId: lead.id });
  await heard(socket, 'lead:subscribed');
  await admin.api('POST', `/api/leads/${lead.id}/activities`, { type: 'NOTE', body: 'before' });
  await heard(socket, 'activity:created');
  socket.io.engine.close();
  await admin.api('POST', `/api/leads/${lead.id}/activities`, { type: 'NOTE', body: 'meanwhile' });
  await heard(socket, 'sync:done');
  await admin.api('POST', `/api/leads/${lead.id}/activities`, { type: 'NOTE', body: 'after' });
  await heard(socket, 'activity:created', ({ activity }) => activity.body === 'after');
  const bodies = events(socket, 'activity:created').map(({ activity }) => activity.body);
  assert.deepEqual(bodies, ['before', 'meanwhile', 'after']);
  assert.equal(events(socket, 'lead:subscribed').length, 2);
});

test('clients of a stopping server reconnect to the next one and miss no event', async (t) => {
  const server = await Server.start(t);
  const [admin, viewer] = await Promise.all(['ADMIN', 'VIEWER'].map((role) => server.person(role)));
  const sockets = [];
  for (let number = 0; number < 60; number += 1) {
    const transports = [['websocket'], ['polling'], ['polling', 'websocket']][number % 3];
    const socket = await server.socket(viewer.token, { transports });
    resume(socket);
    sockets.push(socket);
  }
  const lead = await admin.api('POST', '/api/leads', { title: 'Before' });
  for (const socket of sockets) {
    await heard(socket, 'lead:created');
    // Once, like the guide's hook.
    socket.emit('lead:subscribe', { leadId: lead.id });
    await heard(socket, 'lead:subscribed');
  }
  const { host } = new URL(server.url);
  const { process: old } = server;
  await server.end('SIGTERM');
  assert.equal(old.exitCode, 0);
  await server.serve(host);
  // Most have not reconnected yet.
  await admin.api('POST', `/api/leads/${lead.id}/activities`, { type: 'NOTE', body: 'After' });
  for (const socket of sockets) {
    await heard(socket, 'server:draining');
    await heard(socket, 'activity:created');
    assert.deepEqual(events(socket, 'connected').map(({ recovered }) => recovered), [false, true]);
    assert.equal(events(socket, 'lead:created').length, 1);
    assert.equal(events(socket, 'activity:created').length, 1);
  }
});

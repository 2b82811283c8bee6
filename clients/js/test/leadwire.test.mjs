// The minified helper, as published, on a stock client against the real server.

import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { test } from 'node:test';
import { io } from 'socket.io-client';
import { Server, lose, until } from '../../../host/tests/node/support.mjs';
import { Leadwire } from '../dist/leadwire.min.js';

const brief = { settings: '[auth]\naccess_token_ttl = "3s"\n' };

/** A helper that records its events and renews its tokens like an application. */
function helper(server, person, options = {}, transports = ['websocket']) {
  let { refreshToken } = person;
  const refreshed = { times: 0 };
  const refresh = async () => {
    refreshed.times += 1;
    const { status, body } = await server.call('POST', '/api/auth/refresh', { body: { refreshToken } });
    if (status !== 200) throw new Error(body.code);
    refreshToken = body.refreshToken;
    return body.accessToken;
  };
  const socket = io(server.url, { forceNew: true, autoConnect: false, transports, reconnectionDelay: 100 });
  server.sockets.push(socket);
  const leadwire = new Leadwire(socket, { token: person.token, refresh, ...options });
  const heard = [];
  for (const name of [
    'connected', 'gap', 'synced', 'reset', 'refused', 'lead:subscribed', 'lead:created', 'activity:created',
  ]) {
    leadwire.on(name, (data) => heard.push({ name, data }));
  }
  const named = (name) => heard.filter((event) => event.name === name).map(({ data }) => data);
  const next = (name, count = 1) => until(() => `${count} ${name}: ${JSON.stringify(heard)}`, () => named(name)[count - 1]);
  return { leadwire, socket, named, next, refreshed };
}

const note = (api, lead, body) => api('POST', `/api/leads/${lead.id}/activities`, { type: 'NOTE', body });
const bodies = ({ named }) => named('activity:created').map(({ activity }) => activity.body);

test('it is smaller than 3 KB', () => {
  const { size } = statSync(new URL('../dist/leadwire.min.js', import.meta.url));
  assert.ok(size < 3 * 1024, `${size} bytes`);
});

for (const transports of [['websocket'], ['polling']]) {
  test(`events missed during a lost connection are replayed and reported (${transports})`, async (t) => {
    const server = await Server.start(t);
    const [admin, viewer] = await Promise.all(['ADMIN', 'VIEWER'].map((role) => server.person(role)));
    const lead = await admin.api('POST', '/api/leads', { title: 'Roof' });
    const client = helper(server, viewer, {}, transports);
    await client.leadwire.connect();
    await client.next('connected');
    client.leadwire.follow(lead.id);
    await client.next('lead:subscribed');
    await note(admin.api, lead, 'before');
    await client.next('activity:created');
    const { since } = client.leadwire.position;
    await lose(client.socket);
    await note(admin.api, lead, 'meanwhile');
    const { seq } = await client.next('synced');
    assert.deepEqual(client.named('gap').map((gap) => gap.since), [since]);
    assert.ok(seq > since && client.leadwire.position.since >= seq);
    await note(admin.api, lead, 'after');
    await client.next('activity:created', 3);
    assert.deepEqual(bodies(client), ['before', 'meanwhile', 'after']);
  });
}

test('a server without the subscriptions gets them again', async (t) => {
  const server = await Server.start(t);
  const [admin, viewer] = await Promise.all(['ADMIN', 'VIEWER'].map((role) => server.person(role)));
  const lead = await admin.api('POST', '/api/leads', { title: 'Roof' });
  const client = helper(server, viewer);
  await client.leadwire.connect();
  await client.next('connected');
  client.leadwire.follow(lead.id);
  await client.socket.emitWithAck('lead:subscribe', { leadId: lead.id });
  const { host } = new URL(server.url);
  // A killed server loses the subscriptions that it kept for lost sockets.
  client.socket.io.reconnection(false);
  await server.end('SIGKILL');
  await server.serve(host);
  await note(admin.api, lead, 'meanwhile');
  await until('the loss', () => !client.socket.connected);
  client.socket.connect();
  await client.next('synced');
  assert.deepEqual(bodies(client), ['meanwhile']);
  await note(admin.api, lead, 'after');
  await until('after', () => bodies(client).length === 2);
});

test('a connection lost again during a replay loses no event', async (t) => {
  const server = await Server.start(t);
  const [admin, viewer] = await Promise.all(['ADMIN', 'VIEWER'].map((role) => server.person(role)));
  const lead = await admin.api('POST', '/api/leads', { title: 'Roof' });
  const client = helper(server, viewer);
  await client.leadwire.connect();
  await client.next('connected');
  client.leadwire.follow(lead.id);
  await client.socket.emitWithAck('lead:subscribe', { leadId: lead.id });
  client.socket.io.engine.close();
  const expected = Array.from({ length: 200 }, (_, at) => `note ${at}`);
  for (const body of expected) await note(admin.api, lead, body);
  // Lost three more times, each time after a part of the replay.
  for (const count of [1, 50, 120]) {
    await until(`${count} notes`, () => bodies(client).length >= count);
    client.socket.io.engine?.close();
  }
  await until('all notes', () => bodies(client).length >= expected.length);
  assert.deepEqual(bodies(client), expected);
});

test('a position in another log leads to a reset', async (t) => {
  const server = await Server.start(t);
  const viewer = await server.person('VIEWER');
  const client = helper(server, viewer, { position: { since: 1, epoch: 'another' } });
  await client.leadwire.connect();
  const { epoch, seq } = await client.next('connected');
  assert.deepEqual(await client.next('reset'), { seq, epoch });
  assert.deepEqual(client.leadwire.position, { since: seq, epoch });
});

test('a reloaded page resumes from its stored position', async (t) => {
  const server = await Server.start(t);
  const [admin, viewer] = await Promise.all(['ADMIN', 'VIEWER'].map((role) => server.person(role)));
  const first = helper(server, viewer);
  await first.leadwire.connect();
  await first.next('connected');
  const { position } = first.leadwire;
  first.leadwire.disconnect();
  await admin.api('POST', '/api/leads', { title: 'Roof' });
  const second = helper(server, viewer, { position: { ...position } });
  await second.leadwire.connect();
  await second.next('lead:created');
});

test('tokens are renewed before they expire, and the socket stays connected', async (t) => {
  const server = await Server.start(t, brief);
  const viewer = await server.person('VIEWER');
  const client = helper(server, viewer);
  const reasons = [];
  client.socket.on('disconnect', (reason) => reasons.push(reason));
  await client.leadwire.connect();
  await until('some renewals', () => client.refreshed.times >= 3);
  assert.deepEqual(reasons, []);
  assert.equal(client.named('connected').length, 1);
});

test('a missing token is requested and an expired one replaced', async (t) => {
  const server = await Server.start(t);
  const viewer = await server.person('VIEWER');
  for (const token of [undefined, 'expired']) {
    const client = helper(server, { ...viewer, ...(await server.login('VIEWER')), token });
    await client.leadwire.connect();
    await client.next('connected');
    assert.equal(client.refreshed.times, 1);
  }
});

test('the end of the session is reported once, without a retry loop', async (t) => {
  const server = await Server.start(t);
  const viewer = await server.person('VIEWER');
  const client = helper(server, viewer);
  await client.leadwire.connect();
  await client.next('connected');
  await server.ok('POST', '/api/auth/logout-all', { token: viewer.token });
  assert.match((await client.next('refused')).message, /invalid|revoked|reused|unauthenticated/);
  assert.equal(client.refreshed.times, 1);
  assert.equal(client.socket.active, false);
});

const AUTH_REFUSED = /Invalid authentication token|Authentication token required/;

test('every call of connect resolves once the server has sent connected', async (t) => {
  const server = await Server.start(t);
  const client = helper(server, await server.person('VIEWER'));
  const calls = [client.leadwire.connect(), client.leadwire.connect()];
  await Promise.all(calls);
  assert.equal(client.named('connected').length, 1);
  await client.leadwire.connect();
  assert.equal(client.named('connected').length, 1);
});

test('connect stays pending until the server can be reached', async (t) => {
  const server = await Server.start(t);
  const viewer = await server.person('VIEWER');
  const { host } = new URL(server.url);
  await server.end('SIGTERM');
  const client = helper(server, viewer);
  let isKept = false;
  const connected = client.leadwire.connect().then(() => (isKept = true));
  await new Promise((fulfil) => client.socket.once('connect_error', fulfil));
  assert.equal(isKept, false);
  await server.serve(host);
  await connected;
  assert.equal(client.named('connected').length, 1);
});

test('connect rejects on a refusal, on a failed token request, and on disconnect', async (t) => {
  const server = await Server.start(t);
  const viewer = await server.person('VIEWER');
  const refused = helper(server, { ...viewer, token: 'wrong' }, { refresh: async () => 'wrong as well' });
  await assert.rejects(refused.leadwire.connect(), AUTH_REFUSED);
  assert.match(refused.named('refused')[0].message, AUTH_REFUSED);
  const none = helper(server, { ...viewer, token: undefined }, { refresh: () => Promise.reject(new Error('signed out')) });
  await assert.rejects(none.leadwire.connect(), /signed out/);
  const gone = helper(server, viewer);
  const connecting = gone.leadwire.connect();
  gone.leadwire.disconnect();
  await assert.rejects(connecting, /disconnected/);
  // The next call tries again.
  await gone.leadwire.connect();
  assert.equal(gone.named('connected').length, 1);
  // No caller waits for this one: the process continues.
  const alone = helper(server, { ...viewer, token: 'wrong' }, { refresh: async () => 'wrong as well' });
  alone.leadwire.connect();
  await alone.next('refused');
});

test('the README\'s list is correct after changes during the fetch, and after a reset', async (t) => {
  const server = await Server.start(t);
  const [admin, viewer] = await Promise.all(['ADMIN', 'VIEWER'].map((role) => server.person(role)));
  const create = (title) => admin.api('POST', '/api/leads', { title });
  const [kept, changed, removed] = await Promise.all(['kept', 'changed', 'removed'].map(create));
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const example = /^## A list that stays right$[^]*?^```js\n([^]*?)^```$/m.exec(readme)[1];
  const code = example
    .replace(/^import .*$/gm, '')
    .replaceAll('http://localhost:3001', server.url)
    .replace(/^await fetched;$/m, 'return { leads, leadwire, fetched };');
  // The fetched page is delivered only after events about its leads have arrived.
  let isFirst = true;
  const getJson = async (url) => {
    const page = await viewer.api('GET', url.slice(server.url.length));
    if (!isFirst) return page;
    isFirst = false;
    const title = 'changed meanwhile';
    await admin.api('PATCH', `/api/leads/${changed.id}`, { title });
    await admin.api('DELETE', `/api/leads/${removed.id}`);
    await create('new');
    await until('events', () => [...leads.values()].some((lead) => lead.title === 'new'));
    return page;
  };
  const AsyncFunction = (async () => {}).constructor;
  const names = ['io', 'Leadwire', 'accessToken', 'getNewAccessToken', 'getJson'];
  const run = new AsyncFunction(...names, code);
  const connect = (url, options) => {
    const socket = io(url, { ...options, forceNew: true });
    server.sockets.push(socket);
    return socket;
  };
  // Defined before the first page, by the example itself.
  let leads = new Map();
  const made = await run(connect, Leadwire, viewer.token, async () => assert.fail('tokens live longer'), getJson);
  ({ leads } = made);
  await made.fetched;
  const titles = () => [...leads.values()].map(({ title }) => title).sort();
  assert.deepEqual(titles(), ['changed meanwhile', 'kept', 'new']);
  assert.ok(leads.has(kept.id));
  // Like after a time beyond the retention of the log.
  leads.set('ghost', { id: 'ghost', title: 'ghost' });
  leads.delete(kept.id);
  made.leadwire.socket.emit('sync:since', { seq: 1e9, epoch: made.leadwire.position.epoch });
  await until(() => `the list, ${titles()}`, () => titles().join() === 'changed meanwhile,kept,new');
});

// `createLeadwire`, as built, against the real server: signing in, renewal of tokens, errors, commands and watches.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { emailOf, heard, lose, PASSWORD, Server, until } from '../../../host/tests/node/support.mjs';
import { createLeadwire, LeadwireError, unwrap } from '../dist/index.js';

/** Storage like `localStorage`: clients that get the same object are tabs of one browser. */
function memory(items = new Map()) {
  return {
    items,
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => void items.set(key, value),
    removeItem: (key) => void items.delete(key),
  };
}

/** Stored session, and a way to change it. */
function stored(storage) {
  const [[key, text]] = storage.items;
  const session = JSON.parse(text);
  return { ...session, change: (members) => storage.setItem(key, JSON.stringify({ ...session, ...members })) };
}

const expire = (storage) => stored(storage).change({ expiresAt: Date.now() - 1000 });

/** A client that records its events. */
function client(server, options = {}) {
  const storage = options.storage ?? memory();
  const socket = { forceNew: true, transports: ['websocket'], reconnectionDelay: 100 };
  const leadwire = createLeadwire({ url: server.url, socket, ...options, storage });
  server.sockets.push(leadwire.socket);
  const heard = [];
  for (const name of [
    'user', 'signedOut', 'connected', 'synced', 'reset', 'refused', 'lead:created', 'lead:updated', 'lead:deleted',
  ]) {
    leadwire.on(name, (data) => heard.push({ name, data }));
  }
  const named = (name) => heard.filter((event) => event.name === name).map(({ data }) => data);
  const next = (name, fits = () => true) =>
    until(() => `${name}, heard: ${JSON.stringify(heard)}`, () => named(name).find((data) => fits(data)));
  return { leadwire, storage, named, next };
}

/** A client that is signed in as the user of that role. */
async function signedIn(server, role, options) {
  const tab = client(server, options);
  await tab.leadwire.login(emailOf(role), PASSWORD);
  return tab;
}

/** Records the answers to refreshes until the end of the test. */
function refreshes(t) {
  const { fetch } = globalThis;
  const answers = [];
  globalThis.fetch = async (input, init) => {
    const response = await fetch(input, init);
    if (String(input.url ?? input).endsWith('/api/auth/refresh')) {
      answers.push({ status: response.status, body: await response.clone().json() });
    }
    return response;
  };
  t.after(() => (globalThis.fetch = fetch));
  return answers;
}

const me = ({ leadwire }) => leadwire.api.GET('/api/auth/me');
const is = (members) => (error) => {
  assert.ok(error instanceof LeadwireError, String(error?.stack ?? error));
  for (const [name, value] of Object.entries(members)) assert.deepEqual(error[name], value, `${name}: ${error}`);
  return true;
};

test('login signs in, and a client of the next page is signed in too', async (t) => {
  const server = await Server.start(t);
  const tab = client(server);
  assert.equal(tab.leadwire.user, undefined);
  const user = await tab.leadwire.login(emailOf('SALES'), PASSWORD);
  assert.equal(user.email, emailOf('SALES'));
  assert.deepEqual(tab.named('user'), [user]);
  assert.deepEqual((await me(tab)).data, user);
  const reloaded = client(server, { storage: tab.storage });
  assert.deepEqual(reloaded.leadwire.user, user);
  await reloaded.leadwire.connect();
  assert.equal(reloaded.named('connected')[0].userId, user.id);
});

test('logout ends the session on the server and closes the socket', async (t) => {
  const server = await Server.start(t);
  const tab = await signedIn(server, 'VIEWER');
  await tab.leadwire.connect();
  const { refreshToken } = stored(tab.storage);
  await tab.leadwire.logout();
  assert.equal(tab.leadwire.user, undefined);
  assert.equal(tab.storage.items.size, 0);
  assert.deepEqual(tab.named('signedOut'), [{ reason: 'logout' }]);
  assert.deepEqual(tab.named('user').at(-1), undefined);
  assert.equal(tab.leadwire.socket.connected, false);
  assert.equal((await me(tab)).response.status, 401);
  await assert.rejects(tab.leadwire.connect(), is({ code: 'unauthenticated' }));
  assert.equal((await server.call('POST', '/api/auth/refresh', { body: { refreshToken } })).status, 401);
});

test('after a logout and a login, the socket is the one of the new user', async (t) => {
  const server = await Server.start(t);
  const tab = await signedIn(server, 'ADMIN');
  await tab.leadwire.connect();
  await tab.leadwire.logout();
  const viewer = await tab.leadwire.login(emailOf('VIEWER'), PASSWORD);
  await tab.leadwire.connect();
  const { userId, recovered } = tab.named('connected').at(-1);
  assert.deepEqual({ userId, recovered }, { userId: viewer.id, recovered: false });
  // The same without a logout.
  const sales = await tab.leadwire.login(emailOf('SALES'), PASSWORD);
  await tab.leadwire.connect();
  assert.equal(tab.named('connected').at(-1).userId, sales.id);
});

test('refused logins and calls throw a LeadwireError with the members of the problem', async (t) => {
  const server = await Server.start(t);
  const tab = client(server);
  const wrong = tab.leadwire.login(emailOf('ADMIN'), 'not the password');
  await assert.rejects(wrong, is({ status: 401, code: 'invalid_credentials' }));
  assert.deepEqual(tab.named('signedOut'), []);

  await tab.leadwire.login(emailOf('ADMIN'), PASSWORD);
  const { api } = tab.leadwire;
  const { error, response } = await api.POST('/api/leads', { body: { title: '' } });
  assert.deepEqual([error.code, response.status], ['invalid', 422]);
  const thrown = await unwrap(api.POST('/api/leads', { body: { title: '' } })).catch((error) => error);
  is({ status: 422, code: 'invalid' })(thrown);
  assert.deepEqual(thrown.errors.map(({ field }) => field), ['title']);
  assert.match(thrown.requestId, /^[0-9a-f-]{36}$/);

  const lead = await unwrap(api.POST('/api/leads', { body: { title: 'Roof' } }));
  const stale = api.PATCH('/api/leads/{id}', {
    params: { path: { id: lead.id }, header: { 'If-Match': '"7"' } },
    body: { title: 'Barn' },
  });
  const conflict = await unwrap(stale).catch((error) => error);
  is({ status: 412, code: 'version_conflict' })(conflict);
  assert.equal(conflict.current.title, 'Roof');
});

test('an expired access token is renewed before the call, a refused one after it', async (t) => {
  const server = await Server.start(t);
  const tab = await signedIn(server, 'VIEWER');
  const answers = refreshes(t);
  expire(tab.storage);
  assert.equal((await me(tab)).response.status, 200);
  assert.equal(answers.length, 1);
  stored(tab.storage).change({ accessToken: 'not a token' });
  assert.equal((await me(tab)).response.status, 200);
  assert.equal(answers.length, 2);
  assert.equal(stored(tab.storage).refreshToken, answers[1].body.refreshToken);
});

test('a refused call with a body is sent once more with the new token', async (t) => {
  const server = await Server.start(t);
  const tab = await signedIn(server, 'ADMIN');
  stored(tab.storage).change({ accessToken: 'not a token' });
  const lead = await unwrap(tab.leadwire.api.POST('/api/leads', { body: { title: 'Roof' } }));
  assert.equal(lead.title, 'Roof');
});

test('two clients of one storage refresh once, and both use the successor', async (t) => {
  const server = await Server.start(t);
  const one = await signedIn(server, 'VIEWER');
  const other = client(server, { storage: one.storage });
  const answers = refreshes(t);
  expire(one.storage);
  const calls = await Promise.all([one, other, one, other, other].map(me));
  assert.deepEqual(calls.map(({ response }) => response.status), [200, 200, 200, 200, 200]);
  assert.equal(answers.length, 1);
  // Both sockets too.
  await Promise.all([one, other].map(({ leadwire }) => leadwire.connect()));
  assert.equal(answers.length, 1);
});

test('two clients without a common lock get the same successor, and both stay signed in', async (t) => {
  const server = await Server.start(t);
  const one = await signedIn(server, 'VIEWER');
  // Another storage object on the same data, as in another process.
  const other = client(server, { storage: memory(one.storage.items) });
  const answers = refreshes(t);
  expire(one.storage);
  await Promise.all([one, other].map(me));
  assert.equal(new Set(answers.map(({ body }) => body.refreshToken)).size, 1);
  expire(one.storage);
  for (const tab of [one, other]) assert.equal((await me(tab)).response.status, 200);
  assert.deepEqual([...one.named('signedOut'), ...other.named('signedOut')], []);
});

test('a refresh that the server refuses signs out and reports it once', async (t) => {
  const server = await Server.start(t);
  const tab = await signedIn(server, 'VIEWER');
  const { accessToken } = stored(tab.storage);
  await server.ok('POST', '/api/auth/logout-all', { token: accessToken });
  const [call, another] = await Promise.all([me(tab), me(tab)]);
  assert.deepEqual([call.response.status, another.response.status], [401, 401]);
  assert.equal(call.error.code, 'unauthenticated');
  const [{ reason, error }, ...more] = tab.named('signedOut');
  assert.equal(reason, 'ended');
  is({ status: 401 })(error);
  assert.deepEqual(more, []);
  assert.equal(tab.leadwire.user, undefined);
  assert.equal(tab.storage.items.size, 0);
});

test('the end of the session on the server reaches a client that only listens', async (t) => {
  const server = await Server.start(t);
  const tab = await signedIn(server, 'VIEWER');
  await tab.leadwire.connect();
  await server.ok('POST', '/api/auth/logout-all', { token: stored(tab.storage).accessToken });
  assert.equal((await tab.next('signedOut')).reason, 'ended');
  assert.equal(tab.leadwire.user, undefined);
  assert.deepEqual(tab.named('refused'), []);
  assert.equal(tab.leadwire.socket.active, false);
});

test('a server that cannot be reached signs nobody out', async (t) => {
  const server = await Server.start(t);
  const tab = await signedIn(server, 'VIEWER');
  const { host } = new URL(server.url);
  await server.end('SIGTERM');
  expire(tab.storage);
  await assert.rejects(unwrap(tab.leadwire.api.GET('/api/leads')), is({ status: undefined, code: 'network' }));
  assert.equal(tab.leadwire.user.email, emailOf('VIEWER'));
  // The socket needs a new token as well: it waits for the server.
  const connected = tab.leadwire.connect();
  await server.serve(host);
  await connected;
  assert.equal((await me(tab)).response.status, 200);
  assert.deepEqual(tab.named('signedOut'), []);
});

test('the socket outlives its access tokens, and HTTP calls use the same ones', async (t) => {
  const server = await Server.start(t, { settings: '[auth]\naccess_token_ttl = "3s"\n' });
  const tab = await signedIn(server, 'VIEWER');
  const answers = refreshes(t);
  const reasons = [];
  tab.leadwire.socket.on('disconnect', (reason) => reasons.push(reason));
  await tab.leadwire.connect();
  await until('three renewals', () => answers.length >= 3);
  assert.equal((await me(tab)).response.status, 200);
  assert.deepEqual(reasons, []);
  assert.deepEqual(answers.map(({ status }) => status).filter((status) => status !== 200), []);
});

test('another role is reported as a change of the user', async (t) => {
  const server = await Server.start(t);
  const admin = await server.person('ADMIN');
  const tab = await signedIn(server, 'SALES');
  await tab.leadwire.connect();
  await admin.api('PATCH', `/api/users/${tab.leadwire.user.id}`, { role: 'MANAGER' });
  await tab.next('user', (user) => user?.role === 'MANAGER');
  assert.equal(tab.leadwire.user.role, 'MANAGER');
  assert.deepEqual(tab.named('signedOut'), []);
});

test('commands resolve with what they wrote and its seq', async (t) => {
  const server = await Server.start(t);
  const tab = await signedIn(server, 'ADMIN');
  const { leadwire } = tab;
  await leadwire.connect();
  const { lead, seq } = await leadwire.createLead({ title: 'Roof' });
  assert.equal((await tab.next('lead:created')).seq, seq);
  const updated = await leadwire.updateLead(lead.id, { status: 'WON' }, { version: lead.version });
  assert.deepEqual([updated.lead.status, updated.lead.version], ['WON', 2]);
  assert.ok(updated.seq > seq);
  const assigned = await leadwire.assignLead(lead.id, leadwire.user.id);
  assert.equal(assigned.lead.owner.id, leadwire.user.id);
  const { activity, seq: noted } = await leadwire.createActivity(lead.id, { type: 'NOTE', body: 'Call back' });
  assert.deepEqual([activity.body, activity.leadId], ['Call back', lead.id]);
  const deleted = await leadwire.deleteLead(lead.id);
  assert.equal(deleted.leadId, lead.id);
  assert.ok(deleted.seq > noted);
  assert.equal('ok' in deleted, false);
});

test('refused commands reject with the code, the fields and the current lead', async (t) => {
  const server = await Server.start(t);
  const { leadwire } = await signedIn(server, 'ADMIN');
  await leadwire.connect();
  const { lead } = await leadwire.createLead({ title: 'Roof' });
  const invalid = await leadwire.createLead({ title: '', colour: 'red' }).catch((error) => error);
  is({ code: 'invalid', status: undefined })(invalid);
  assert.deepEqual(invalid.errors.map(({ field }) => field).sort(), ['colour', 'title']);
  const conflict = await leadwire.updateLead(lead.id, { title: 'Barn' }, { version: 7 }).catch((error) => error);
  is({ code: 'version_conflict' })(conflict);
  assert.deepEqual([conflict.current.title, conflict.current.version], ['Roof', 1]);
  const unknown = leadwire.deleteLead('0190a8c1-7b4e-7c3a-9f11-3a5d0c6f2b10');
  await assert.rejects(unknown, is({ code: 'lead_not_found' }));

  const viewer = await signedIn(server, 'VIEWER');
  await viewer.leadwire.connect();
  await assert.rejects(viewer.leadwire.createLead({ title: 'Barn' }), is({ code: 'forbidden' }));
});

test('a command beyond the rate limit rejects with the time to wait', async (t) => {
  const server = await Server.start(t, { settings: '[limits]\nevents_per_second = 1\nevents_burst = 2\n' });
  const { leadwire } = await signedIn(server, 'ADMIN');
  await leadwire.connect();
  const results = await Promise.allSettled(['a', 'b', 'c', 'd'].map((title) => leadwire.createLead({ title })));
  const refused = results.filter(({ status }) => status === 'rejected').map(({ reason }) => reason);
  assert.ok(refused.length > 0);
  for (const error of refused) is({ code: 'rate_limited', limit: 'events' })(error);
  assert.ok(refused[0].retryAfterMs > 0);
});

test('a command whose connection is lost is carried out once', async (t) => {
  const server = await Server.start(t);
  const tab = await signedIn(server, 'ADMIN');
  await tab.leadwire.connect();
  const creating = tab.leadwire.createLead({ title: 'Roof' });
  await lose(tab.leadwire.socket);
  const { lead } = await creating;
  const { items } = await unwrap(tab.leadwire.api.GET('/api/leads'));
  assert.deepEqual(items.map(({ id }) => id), [lead.id]);
});

test('a command without an answer rejects in time; without connect, it is not sent', async (t) => {
  const server = await Server.start(t);
  const tab = await signedIn(server, 'ADMIN');
  await assert.rejects(tab.leadwire.createLead({ title: 'Roof' }), is({ code: 'disconnected' }));
  await tab.leadwire.connect();
  server.process.kill('SIGSTOP');
  try {
    const late = tab.leadwire.createLead({ title: 'Roof' }, { timeoutMs: 200, idempotencyKey: 'roof' });
    await assert.rejects(late, is({ code: 'timeout' }));
  } finally {
    server.process.kill('SIGCONT');
  }
  // The same key gets the outcome of the first attempt, if there was one.
  await tab.leadwire.createLead({ title: 'Roof' }, { idempotencyKey: 'roof' });
  const { items } = await unwrap(tab.leadwire.api.GET('/api/leads'));
  assert.deepEqual(items.map(({ title }) => title), ['Roof']);
});

test('disconnect drops commands that wait: the next user does not send them', async (t) => {
  const server = await Server.start(t);
  const tab = await signedIn(server, 'SALES');
  const { host } = new URL(server.url);
  await tab.leadwire.connect();
  await server.end('SIGKILL');
  await until('the loss', () => !tab.leadwire.socket.connected);
  const waiting = assert.rejects(tab.leadwire.createLead({ title: 'Roof' }), is({ code: 'disconnected' }));
  tab.leadwire.disconnect();
  await waiting;
  await server.serve(host);
  await tab.leadwire.login(emailOf('ADMIN'), PASSWORD);
  await tab.leadwire.connect();
  const { lead } = await tab.leadwire.createLead({ title: 'Barn' });
  const { items } = await unwrap(tab.leadwire.api.GET('/api/leads'));
  assert.deepEqual(items.map(({ id }) => id), [lead.id]);
});

test('events missed during a lost connection arrive once', async (t) => {
  const server = await Server.start(t);
  const admin = await server.person('ADMIN');
  const tab = await signedIn(server, 'VIEWER');
  await tab.leadwire.connect();
  await admin.api('POST', '/api/leads', { title: 'before' });
  await tab.next('lead:created');
  await lose(tab.leadwire.socket);
  await admin.api('POST', '/api/leads', { title: 'meanwhile' });
  await tab.next('synced');
  await admin.api('POST', '/api/leads', { title: 'after' });
  await tab.next('lead:created', ({ lead }) => lead.title === 'after');
  assert.deepEqual(tab.named('lead:created').map(({ lead }) => lead.title), ['before', 'meanwhile', 'after']);
});

test('watched leads are those of the server after events, a lost connection and a reset', async (t) => {
  const server = await Server.start(t);
  const admin = await server.person('ADMIN');
  const create = (title) => admin.api('POST', '/api/leads', { title });
  const [changed, removed] = [await create('changed'), await create('removed')];
  const { leadwire } = await signedIn(server, 'VIEWER');
  const watched = leadwire.watchLeads();
  let view;
  const stop = watched.subscribe((next) => (view = next));
  assert.deepEqual(view, { leads: [], isLoaded: false });
  await leadwire.connect();
  const titles = () => view.leads.map(({ title }) => title).join();
  const become = (expected) =>
    until(() => `${expected}, not ${titles()}`, () => view.isLoaded && titles() === expected);
  await become('removed,changed');
  await admin.api('PATCH', `/api/leads/${changed.id}`, { title: 'changed once' });
  await admin.api('DELETE', `/api/leads/${removed.id}`);
  await become('changed once');
  await lose(leadwire.socket);
  await create('meanwhile');
  await become('meanwhile,changed once');
  // The server tells this socket to fetch again, as after a time beyond the retention of the log.
  leadwire.socket.emit('sync:since', { seq: 1e9, epoch: leadwire.position.epoch });
  await create('after');
  await become('after,meanwhile,changed once');
  assert.equal(watched.get(), view);
  const last = view;
  stop();
  await create('unheard');
  assert.equal(view, last);
  assert.deepEqual(watched.get(), { leads: [], isLoaded: false });
  // And again from the start.
  watched.subscribe((next) => (view = next));
  await become('unheard,after,meanwhile,changed once');
  await leadwire.logout();
  await until('an empty list', () => view.leads.length === 0);
});

test('a watched lead has its activities and viewers, and is unfollowed at the end', async (t) => {
  const server = await Server.start(t, { settings: '[presence]\ngrace = "100ms"\ninterval = "100ms"\n' });
  const admin = await server.person('ADMIN');
  const lead = await admin.api('POST', '/api/leads', { title: 'Roof' });
  const note = (body) => admin.api('POST', `/api/leads/${lead.id}/activities`, { type: 'NOTE', body });
  const first = await note('first');
  const { leadwire } = await signedIn(server, 'VIEWER');
  await leadwire.connect();
  let view;
  const watched = leadwire.watchLead(lead.id);
  const stop = watched.subscribe((next) => (view = next));
  const list = (items, member) => items.map((item) => item[member]).join();
  const summary = () => [view.lead?.title, list(view.activities, 'body'), list(view.viewers, 'name')];
  const become = (...expected) =>
    until(() => `${expected}, not ${summary()}`, () => summary().join(';') === expected.join(';'));
  await become('Roof', 'first', 'Viewer User');
  const socket = await server.socket(admin.token);
  socket.emit('lead:subscribe', { leadId: lead.id });
  await become('Roof', 'first', 'Admin User,Viewer User');
  await note('second');
  await admin.api('DELETE', `/api/activities/${first.id}`);
  await admin.api('PATCH', `/api/leads/${lead.id}`, { title: 'New roof' });
  await become('New roof', 'second', 'Admin User,Viewer User');
  await lose(leadwire.socket);
  await note('meanwhile');
  await become('New roof', 'meanwhile,second', 'Admin User,Viewer User');
  assert.deepEqual([...leadwire.leads], [lead.id]);
  stop();
  assert.deepEqual([...leadwire.leads], []);
  await heard(socket, 'lead:viewers', ({ total }) => total === 1);
  // And again from the start, until the lead is deleted.
  watched.subscribe((next) => (view = next));
  await become('New roof', 'meanwhile,second', 'Admin User,Viewer User');
  await admin.api('DELETE', `/api/leads/${lead.id}`);
  await until('the deletion', () => view.lead === undefined && view.isLoaded);
});

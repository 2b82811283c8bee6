// The code of the client guide, fence by fence, unchanged except for URL and token, against the real server.
//
// Existing clients follow `guide/socketio-client-guide.md`: it is the contract and is not edited here. The client
// library chooses the transport as usual; the test makes a transport available or blocks it.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { transports } from 'engine.io-client';
import { JSDOM } from 'jsdom';
import { Server, heard, until } from './support.mjs';

const guide = readFileSync(new URL('guide/socketio-client-guide.md', import.meta.url), 'utf8');
const fences = read(guide);
const folder = new URL('node_modules/.guide/', import.meta.url);
mkdirSync(folder, { recursive: true });

// React and Vue look for a DOM when they are loaded.
const page = new JSDOM('<!doctype html>', { url: 'http://localhost/' });
Object.assign(globalThis, { window: page.window, document: page.window.document });
for (const name of ['navigator', 'Element', 'HTMLElement', 'SVGElement', 'MathMLElement', 'Node']) {
  globalThis[name] ??= page.window[name];
}
const React = await import('react');
const ReactDom = await import('react-dom/client');
const Vue = await import('vue');

const { polling, websocket } = transports;

/** A network that blocks WebSockets. */
class Blocked extends websocket {
  doOpen() {
    this.onError('blocked');
  }
}

/** A browser that starts with a WebSocket. */
class Straight extends websocket {
  constructor(options) {
    super({ ...options, query: { ...options.query, transport: 'websocket' } });
  }
}

for (const [label, found] of [
  ['websocket', { polling: Straight, websocket }],
  ['polling', { polling, websocket: Blocked }],
  ['polling, then websocket', { polling, websocket }],
]) {
  const on = (claim, body, options) =>
    test(`${claim} (${label})`, async (t) => {
      Object.assign(transports, found);
      await body(await Server.start(t, options));
    });

  on('Basic Connection: connects, and is disconnected when the server stops', async (server) => {
    const { token, user } = await server.person('SALES');
    const client = await run(server, token, ['Basic Connection']);
    await client.printed('Connected to server:');
    const used = label.split(' ').at(-1);
    await until(`a connection by ${used}`, () => client.socket.io.engine.transport.name === used);
    const { message, userId, userRole } = await heard(client.socket, 'connected');
    assert.deepEqual([typeof message, userId, userRole], ['string', user.id, 'SALES']);
    await server.end('SIGTERM');
    const [, reason] = await client.printed('Disconnected:');
    assert.match(reason, /^transport (close|error)$/, 'a reason for which a stock client comes back');
  });

  on('Basic Connection: connect errors have the exact texts of the guide', async (server) => {
    const forged = await run(server, 'not.a.token', ['Basic Connection']);
    await forged.printed('Connection failed:', 'Invalid authentication token');
    const none = await run(server, '', ['Basic Connection']);
    await none.printed('Connection failed:', 'Authentication token required');
  });

  on('Lead Subscription: both confirmations arrive', async (server) => {
    const { token } = await server.person('VIEWER');
    const client = await run(server, token, ['Basic Connection', 'Lead Subscription']);
    await client.printed('Subscribed to lead:', 'lead-uuid-here');
    await client.printed('Unsubscribed from lead:', 'lead-uuid-here');
  });

  on('Lead Events: each changes the list of leads once', async (server) => {
    const [admin, sales, viewer] = await Promise.all(['ADMIN', 'SALES', 'VIEWER'].map((role) => server.person(role)));
    const client = await run(server, viewer.token, ['Basic Connection', 'Lead Events']);
    await heard(client.socket, 'connected');

    const lead = await admin.api('POST', '/api/leads', { title: 'Roof' });
    const [created] = await client.called('addLeadToList');
    assert.equal(created.id, lead.id);
    await client.printed('New lead created:', lead);
    await client.printed('Created by:', { id: admin.user.id, email: admin.user.email, role: 'ADMIN' });

    await admin.api('PATCH', `/api/leads/${lead.id}`, { status: 'QUALIFIED' });
    const [updated] = await client.called('updateLeadInList');
    assert.equal(updated.status, 'QUALIFIED');
    await client.printed('Updated by:', { id: admin.user.id, email: admin.user.email, role: 'ADMIN' });

    await admin.api('POST', `/api/leads/${lead.id}/assign`, { ownerId: sales.user.id });
    const [assigned] = await client.called('updateLeadInList', 2);
    assert.deepEqual(assigned.owner, { id: sales.user.id, name: sales.user.name, email: sales.user.email });
    await client.printed('Previous owner:', null);

    await admin.api('DELETE', `/api/leads/${lead.id}`);
    assert.deepEqual(await client.called('removeLeadFromList'), [lead.id]);
    assert.deepEqual(
      client.calls.map(([name]) => name),
      ['addLeadToList', 'updateLeadInList', 'updateLeadInList', 'removeLeadFromList'],
    );

    for (const name of ['lead:created', 'lead:updated', 'lead:assigned', 'lead:deleted']) {
      const { seq, epoch, timestamp } = await heard(client.socket, name);
      assert.ok(Number.isSafeInteger(seq) && typeof epoch === 'string', `${name}: ${seq} ${epoch}`);
      assert.match(timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    }
    contains(await heard(client.socket, 'lead:assigned'), { lead: literal('Event Data Structure: Lead Events').lead });
    contains(await heard(client.socket, 'lead:created'), { ...literal('Event Data Structure: Lead Events'), lead: {} });
  });

  on('Activity Events: only subscribers of the lead get them', async (server) => {
    const sales = await server.person('SALES');
    const lead = await sales.api('POST', '/api/leads', { title: 'Roof' });
    const [follower, other] = await Promise.all(
      [0, 1].map(() => run(server, sales.token, ['Basic Connection', 'Activity Events'])),
    );
    follower.socket.emit('lead:subscribe', { leadId: lead.id });
    await heard(follower.socket, 'lead:subscribed');

    await sales.api('POST', `/api/leads/${lead.id}/activities`, { type: 'NOTE', body: 'Called back' });
    const [leadId, activity] = await follower.called('addActivityToLead');
    assert.deepEqual([leadId, activity.type, activity.body], [lead.id, 'NOTE', 'Called back']);
    await follower.printed('Lead ID:', lead.id);
    contains(await heard(follower.socket, 'activity:created'), literal('Event Data Structure: Activity Events'));

    // A later event has arrived, so every earlier one has arrived or never will.
    await sales.api('PATCH', `/api/leads/${lead.id}`, { title: 'Roof, second try' });
    await heard(other.socket, 'lead:updated');
    assert.deepEqual(other.calls, []);
  });

  on('Error Handling: an invalid subscription is reported', async (server) => {
    const { token } = await server.person('VIEWER');
    const client = await run(server, token, ['Basic Connection', 'Error Handling']);
    client.socket.emit('lead:subscribe', {});
    await client.printed('Socket error:', 'Lead ID is required');
    await client.printed('Invalid lead subscription request');
    client.socket.emit('auth:refresh', {});
    await client.printed('Please log in again');
    client.socket.emit('lead:shout', {});
    await client.printed('Unknown socket error');
    assert.ok(client.socket.connected, 'an error closes nothing');
  });

  on('Error Handling: an expired token is refreshed and the socket connects', async (server) => {
    const person = await server.person('MANAGER');
    const me = () => server.call('GET', '/api/auth/me', { token: person.token });
    await until('the token to expire', async () => (await me()).status === 401);
    const refreshToken = async () => {
      const body = { refreshToken: person.refreshToken };
      return (await server.ok('POST', '/api/auth/refresh', { body })).accessToken;
    };
    const client = await run(server, person.token, ['Basic Connection', 'Error Handling'], { refreshToken });
    await client.printed('Connection failed:', 'Invalid authentication token');
    await client.printed('Connected to server:');
    assert.equal((await heard(client.socket, 'connected')).userId, person.user.id);
  }, { settings: '[auth]\naccess_token_ttl = "2s"\n' });

  on('Room Management: own rooms are joined, and any lead can be followed', async (server) => {
    const [admin, sales] = await Promise.all(['ADMIN', 'SALES'].map((role) => server.person(role)));
    const client = await run(server, sales.token, ['Basic Connection', 'Room Management']);
    assert.deepEqual((await heard(client.socket, 'lead:subscribed')).leadId, 'lead-123');
    assert.deepEqual((await heard(client.socket, 'lead:unsubscribed')).leadId, 'lead-123');
    const lead = await admin.api('POST', '/api/leads', { title: 'Roof' });
    await admin.api('POST', `/api/leads/${lead.id}/assign`, { ownerId: sales.user.id });
    assert.equal((await heard(client.socket, 'lead:created')).lead.id, lead.id, 'org:global');
    assert.equal((await heard(client.socket, 'notification')).leadId, lead.id, 'user:<userId>');
  });

  on('React Hook Example: a component follows its lead until it is unmounted', async (server) => {
    const sales = await server.person('SALES');
    const lead = await sales.api('POST', '/api/leads', { title: 'Roof' });
    const client = await run(server, sales.token, ['React Hook Example']);
    const { useSocket, useLeadSubscription } = client.module;
    const Lead = ({ token, leadId }) => {
      const { socket, connected } = useSocket(token);
      useLeadSubscription(socket, leadId);
      if (socket && socket !== client.socket) client.listen(socket);
      return React.createElement('output', null, connected ? 'live' : 'offline');
    };
    const root = ReactDom.createRoot(container());
    const element = React.createElement(Lead, { token: sales.token, leadId: lead.id });
    root.render(React.createElement(React.StrictMode, null, element));
    await until('a live component', () => document.querySelector('output')?.textContent === 'live');
    await heard(client.socket, 'lead:subscribed');

    await sales.api('PATCH', `/api/leads/${lead.id}`, { title: 'New roof' });
    await sales.api('POST', `/api/leads/${lead.id}/activities`, { type: 'CALL' });
    const [, { lead: seen }] = await client.printed('Lead updated:');
    assert.equal(seen.title, 'New roof');
    const [, { activity }] = await client.printed('New activity:');
    assert.equal(activity.type, 'CALL');

    const { socket } = client;
    root.unmount();
    await until('the end of the socket', () => !socket.connected);
  });

  on('Vue.js Composition API Example: a component is live until it is unmounted', async (server) => {
    const { token, api } = await server.person('SALES');
    const client = await run(server, token, ['Vue.js Composition API Example']);
    const { useSocket } = client.module;
    let used;
    const app = Vue.createApp({
      setup() {
        used = useSocket(token);
        return () => Vue.h('output', used.connected.value ? 'live' : 'offline');
      },
    });
    app.mount(container());
    client.listen(used.socket.value);
    await until('a live component', () => document.querySelector('output')?.textContent === 'live');
    await heard(client.socket, 'connected');
    const lead = await api('POST', '/api/leads', { title: 'Roof' });
    assert.equal((await heard(client.socket, 'lead:created')).lead.id, lead.id);

    const { socket } = client;
    const { ws } = Vue.toRaw(Vue.toRaw(Vue.toRaw(socket).io).engine).transport;
    app.unmount();
    await until('the end of the socket', () => !socket.connected);
    // The guide's `ref` wraps everything in the socket in proxies; through one, ws fails to clear this timer, and the
    // process would wait for it.
    await until('the end of the connection', () => !ws || ws.readyState > ws.OPEN);
    ws?._closeTimer?.unref();
  });
}

test('every fence of the guide is run or compared', () => {
  const known = [
    'Basic Connection',
    'Lead Subscription',
    'Lead Events',
    'Activity Events',
    'React Hook Example',
    'Vue.js Composition API Example',
    'Error Handling',
    'Room Management',
    'Event Data Structure: Lead Events',
    'Event Data Structure: Activity Events',
    'Redis Scaling (Future)', // Only comments.
  ];
  assert.deepEqual(Object.keys(fences), known);
});

after(() => page.window.close());

/** The guide's ```javascript fences by heading. */
function read(text) {
  const found = {};
  const headings = [];
  for (const [, level, heading, code] of text.matchAll(/^(##+) (.*)$|^```javascript\n([^]*?)^```$/gm)) {
    if (level) headings.splice(level.length - 2, Infinity, heading);
    // "Lead Events" occurs twice: for the code and for the payload.
    else found[headings[0] === 'Event Data Structure' ? headings.join(': ') : headings.at(-1)] = code;
  }
  return found;
}

let runs = 0;

/** Runs fences as one module, in a file because they use imports. */
async function run(server, token, names, given = {}) {
  const client = { calls: [], lines: [], socket: null, listen };
  const record = (name) => (...args) => void client.calls.push([name, ...args]);
  const print = (...args) => void client.lines.push(args);
  const scope = { console: { log: print, error: print }, refreshToken: record('refreshToken') };
  for (const name of ['addLeadToList', 'updateLeadInList', 'removeLeadFromList', 'addActivityToLead']) {
    scope[name] = record(name);
  }
  const key = `guide${(runs += 1)}`;
  globalThis[key] = { ...scope, ...given };
  const code = names.map((name) => fences[name]).join('\n');
  const hooks = /export /.test(code);
  const text = `const { ${Object.keys(globalThis[key])} } = globalThis.${key};\n${code}\n${hooks ? '' : 'export { socket };'}`
    .replaceAll('http://localhost:3001', server.url)
    .replaceAll('your_jwt_access_token', token);
  const file = new URL(`${process.pid}-${key}.mjs`, folder);
  writeFileSync(file, text);
  client.module = await import(file);
  if (client.module.socket) listen(client.module.socket);

  function listen(socket) {
    client.socket = socket;
    socket.heard ??= [];
    socket.onAny((name, data) => socket.heard.push({ name, data }));
    server.sockets.push(socket);
  }
  /** Waits for a printed line that begins with these values. */
  client.printed = (...begin) =>
    until(() => `${JSON.stringify(begin)}, printed: ${JSON.stringify(client.lines)}`, () =>
      client.lines.find((line) => begin.every((part, at) => equal(line[at], part))),
    );
  /** Waits for the nth call of a function that the fences leave to the reader. */
  client.called = async (name, nth = 1) =>
    (await until(name, () => client.calls.filter(([called]) => called === name)[nth - 1])).slice(1);
  return client;
}

function container() {
  document.body.replaceChildren();
  return document.body.appendChild(document.createElement('div'));
}

function equal(left, right) {
  try {
    assert.deepEqual(left, right);
    return true;
  } catch {
    return false;
  }
}

const literal = (name) => new Function(`return (${fences[name]})`)();

/** Checks that every member shown by the guide exists with a value of the same type. */
function contains(payload, shown, path = '') {
  for (const [key, value] of Object.entries(shown)) {
    assert.equal(typeof payload[key], typeof value, `${path}/${key} in ${JSON.stringify(payload)}`);
    if (typeof value === 'object') contains(payload[key], value, `${path}/${key}`);
  }
}

// Many failures at once: connections are cut at random, the server is killed and restarted, and plugins and roles
// change while writers write. At the end each client has received exactly the events that its role may see.
//
// LEADWIRE_CHAOS_SECONDS sets the duration (default: a minute in CI, otherwise 20 s). LEADWIRE_CHAOS_SEED reproduces a
// run; every run prints its seed.
//
// The expected result comes from the log as `explain` shows it to an admin at the end: without a gap, and with every
// acknowledged change. The events of each client follow from the log, owners and roles. After a change of plugins or of
// its own role, a client may get `sync:reset` instead of the events that it had not received by then.

import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { io } from 'socket.io-client';
import { Leadwire } from '../../../clients/js/dist/index.js';
import { Proxy } from './proxy.mjs';
import { PASSWORD, ROLES, Server, dice, resume, until } from './support.mjs';

const SECONDS = Number(process.env.LEADWIRE_CHAOS_SECONDS ?? (process.env.CI ? 60 : 20));
const SEED = Number(process.env.LEADWIRE_CHAOS_SEED ?? Math.floor(Math.random() * 2 ** 32));
const CLIENTS = 200;
const KILLS = 10;
const HOT_LEADS = 8;
/** Roles between which these users change. */
const MOVERS = 3;
const MOVES = ['MANAGER', 'SALES', 'VIEWER'];
const TRANSPORTS = [['websocket'], ['polling'], ['websocket'], ['polling', 'websocket']];
const STATUSES = ['NEW', 'CONTACTED', 'QUALIFIED', 'PROPOSAL', 'NEGOTIATION', 'WON', 'LOST'];

// A stock client whose WebSocket is cut during the upgrade stops polling and detects it only by the heartbeat.
const settings = `
[socket]
ping_interval = "4s"
ping_timeout = "8s"
[limits]
connections_per_address = 100000
[visibility]
SALES = "own+unassigned"
[plugins]
on_missing = "unload"
`;
/** All of them hide the address from viewers only; the other fields vary. */
const REDACTIONS = [['email'], ['email', 'phone'], ['email', 'company', 'phone'], ['company', 'email']];
const redaction = (fields) => `[config]\nroles = ["VIEWER"]\nfields = ${JSON.stringify(fields)}\n`;

test(`${CLIENTS} clients miss no event and get none twice despite kills, cuts and reloads (${SECONDS} s)`, async (t) => {
  console.log(`LEADWIRE_CHAOS_SEED=${SEED} LEADWIRE_CHAOS_SECONDS=${SECONDS}`);
  const server = await Server.start(t, { settings, plugins: { 'redact-contact': redaction(['email']) } });
  const { host } = new URL(server.url);
  const admin = await server.person('ADMIN');
  const users = await hire(server, admin);
  const leads = [];
  for (let number = 0; number < HOT_LEADS; number += 1) {
    const lead = await admin.api('POST', '/api/leads', { title: `Lead ${number}`, email: 'a@secret.example' });
    const owners = users.filter(({ role }) => role === 'SALES');
    if (number % 2) await admin.api('POST', `/api/leads/${lead.id}/assign`, { ownerId: owners[number % owners.length].id });
    leads.push(lead.id);
  }

  const proxy = await Proxy.listen(t, Number(new URL(server.url).port));
  const clients = [];
  for (let at = 0; at < CLIENTS; at += 20) {
    const some = Array.from({ length: Math.min(20, CLIENTS - at) }, (_, number) => at + number);
    clients.push(...(await Promise.all(some.map((number) => enter(server, proxy, users, leads, number)))));
  }
  t.after(() => clients.forEach((client) => client.leave()));

  // The handover of a killed server is slightly older.
  const file = join(server.home, 'leadwire-data/sockets.json');
  const left = () => (existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).followed : {});
  const followers = clients.filter(({ follows }) => follows.size).length;
  await until('the server to know who follows what', () => {
    const sessions = Object.values(left());
    return sessions.filter(({ leads }) => Object.keys(leads).length === HOT_LEADS / 2).length === followers;
  });

  const began = performance.now();
  const storm = new Storm({ server, host, admin, users, leads, proxy });
  await storm.rage();
  const last = await persist(() => admin.api('POST', '/api/leads', { title: 'The last one', email: 'a@secret.example' }));
  assert.ok(last.id);

  const settling = performance.now();
  const log = await readLog(server, admin, users);
  for (const { id, title } of storm.answered) {
    assert.ok(log.has(id, title), `${title} of ${id} was answered and is not in the log`);
  }
  const lacking = () => clients.filter((client) => log.missing(client).length > 0);
  const say = () => lacking().map((client) => `${client.label} lacks ${log.missing(client).slice(0, 5)}: ${log.story(client)}`);
  await until(() => say().join('\n'), () => lacking().length === 0, 120_000);
  for (const client of clients) log.judge(client);
  const told = clients.reduce((sum, { seqs }) => sum + seqs.length, 0);
  const resets = clients.reduce((sum, client) => sum + client.resets.length, 0);
  const returns = clients.reduce((sum, { greetings }) => sum + greetings - 1, 0);
  console.log(`${log.head} events, ${told} told, ${returns} returns, ${resets} resets, ${proxy.cuts} cuts, ${storm.kills} kills, ` +
    `${storm.swaps} swaps of plugins, ${storm.moves} changes of roles; ` +
    `${Math.round((settling - began) / 1000)} s of storm, all at rest ${Math.round((performance.now() - settling) / 1000)} s later`);
  assert.equal(storm.kills, KILLS);
  assert.ok(returns > CLIENTS && storm.swaps >= 5 && storm.moves >= 3, 'it was a storm');
});

/** Users of all roles; the first few are those whose roles change. */
async function hire(server, admin) {
  const users = [];
  for (let number = 0; number < MOVERS + 8; number += 1) {
    const role = number < MOVERS ? MOVES[number % MOVES.length] : ROLES[number % ROLES.length];
    const email = `user${number}@example.com`;
    const user = await admin.api('POST', '/api/users', { email, name: `User ${number}`, role, password: PASSWORD });
    users.push({ ...user, number, moves: number < MOVERS });
  }
  return users;
}

/** One connected client: a third are helpers that follow leads, a third are stock sockets that subscribe once, like the
 *  guide's hook. The others are stock sockets without subscriptions. */
async function enter(server, proxy, users, leads, number) {
  const user = users[number % users.length];
  const transports = TRANSPORTS[Math.floor(number / users.length) % TRANSPORTS.length];
  // A separate login: subscriptions of lost sockets go to the next socket of the same login.
  const { accessToken: token } = await server.login(user.role, user.email);
  const options = {
    forceNew: true, autoConnect: false, transports, auth: { token }, reconnectionDelay: 200, reconnectionDelayMax: 1000,
  };
  const socket = io(proxy.url, options);
  const follows = number % 3 < 2 ? leads.filter((_, at) => (at + number) % 2 === 0) : [];
  const client = { resets: [], label: `client ${number} (${user.email}, ${transports}${['helper', 'follower', 'listener'][number % 3]})`, isHelper: number % 3 === 0 };
  Object.assign(client, { user, socket, follows: new Set(follows), from: undefined, seqs: [], shapes: [] });
  Object.assign(client, { greetings: 0, errors: [], leave: () => socket.disconnect() });
  const take = (name, event) => {
    client.seqs.push(event.seq);
    if (event.lead) client.shapes.push([event.seq, event.lead.email !== undefined]);
  };
  // The last seq received without a gap, and the seq up to which events need not arrive.
  const reset = (heard, { seq }) => client.resets.push({ heard, seq });
  // History of its connections, reported if an event is missing.
  client.story = [];
  socket.on('connected', ({ seq, recovered }) => client.story.push([seq, recovered ? 'recovered' : 'connected']));
  socket.on('disconnect', (reason) => client.story.push([Math.max(0, ...client.seqs), reason]));
  for (const name of ['lead:subscribed', 'sync:reset', 'sync:done', 'error']) {
    socket.on(name, ({ seq, code }) => client.story.push([seq ?? Math.max(0, ...client.seqs), code ?? name]));
  }
  let position = 0;
  const greet = ({ seq }) => {
    client.greetings += 1;
    client.from ??= seq;
  };
  socket.on('connect_error', ({ message }) => {
    // A client that is refused with a connect error does not retry.
    if (!socket.active) client.errors.push(message);
  });
  socket.on('disconnect', (reason) => reason.startsWith('io ') && client.errors.push(reason));
  const confirmed = new Set();
  if (client.isHelper) {
    const leadwire = new Leadwire(socket, { token, refresh: async () => assert.fail('tokens live longer') });
    for (const name of LOGGED) leadwire.on(name, (event) => take(name, event));
    leadwire.on('connected', greet);
    leadwire.on('gap', ({ since }) => (position = since));
    leadwire.on('synced', ({ seq }) => (position = seq));
    leadwire.on('reset', (event) => reset(position, event));
    for (const name of LOGGED) leadwire.on(name, () => (position = Math.max(position, leadwire.position?.since ?? 0)));
    leadwire.on('refused', ({ message }) => client.errors.push(message));
    leadwire.on('lead:subscribed', ({ leadId }) => confirmed.add(leadId));
    for (const lead of follows) leadwire.follow(lead);
    await leadwire.connect();
    await until('subscriptions', () => confirmed.size === follows.length);
  } else {
    resume(socket);
    socket.onAny((name, event) => LOGGED.includes(name) && take(name, event));
    socket.on('connected', greet);
    socket.on('sync:reset', (event) => reset(Math.max(0, ...client.seqs), event));
    socket.connect();
    await until('a greeting', () => client.greetings);
    socket.on('lead:subscribed', ({ leadId }) => confirmed.add(leadId));
    for (const leadId of follows) socket.emit('lead:subscribe', { leadId });
    await until('subscriptions', () => confirmed.size === follows.length);
  }
  return client;
}

const LOGGED = [
  'lead:created', 'lead:updated', 'lead:deleted', 'lead:assigned', 'activity:created', 'activity:updated',
  'activity:deleted', 'lead:revoked', 'notification', 'session:updated',
];

/** Retries a call that fails while the server is being killed. */
async function persist(act) {
  return until('the server to do it', () => act().catch((error) => (error.code === 'ERR_ASSERTION' ? Promise.reject(error) : null)), 60_000);
}

/** Failures; each kind has its own generator, so that a seed decides them independently of timing. */
class Storm {
  constructor(scene) {
    Object.assign(this, scene, { answered: [], kills: 0, swaps: 0, moves: 0 });
  }

  async rage() {
    this.until = Date.now() + SECONDS * 1000;
    const writers = Array.from({ length: 5 }, (_, number) => this.write(number));
    await Promise.all([this.cut(), this.kill(), this.swap(), this.move(), ...writers]);
  }

  get isOver() {
    return Date.now() > this.until;
  }

  async cut() {
    for (const chance = dice(SEED + 1); !this.isOver; await sleep(60 + chance.below(120))) {
      for (let count = 1 + chance.below(3); count > 0; count -= 1) this.proxy.cut(chance);
    }
  }

  async kill() {
    const chance = dice(SEED + 2);
    const pause = (SECONDS * 1000) / (KILLS + 1);
    const begin = Date.now();
    for (let number = 1; number <= KILLS; number += 1) {
      await sleep(Math.max(0, begin + (number - 0.25 + 0.5 * chance.next()) * pause - Date.now()));
      await this.server.end('SIGKILL');
      await sleep(chance.below(300));
      await this.server.serve(this.host);
      this.kills += 1;
    }
  }

  async swap() {
    const { server } = this;
    for (const chance = dice(SEED + 3); !this.isOver; await sleep((SECONDS / 40) * 1000 * (0.5 + chance.next()))) {
      const what = chance.below(3);
      if (what === 0) server.plugin('lead-score', '[config]\nhalf_life_days = 7\n');
      else if (what === 1) rmSync(join(server.plugins, 'lead-score.wasm'), { force: true });
      else server.replace('redact-contact.toml', redaction(chance.pick(REDACTIONS)));
      this.swaps += 1;
    }
  }

  async move() {
    const movers = this.users.filter(({ moves }) => moves);
    for (const chance = dice(SEED + 4); !this.isOver; await sleep((SECONDS / 12) * 1000 * (0.5 + chance.next()))) {
      const [user, role] = [chance.pick(movers), chance.pick(MOVES)];
      await this.ask('PATCH', `/api/users/${user.id}`, { role });
      this.moves += 1;
    }
  }

  async write(number) {
    const chance = dice(SEED + 100 + number);
    for (let count = 0; !this.isOver; count += 1, await sleep(100 + chance.below(200))) {
      const title = `Title ${number}.${count}`;
      const lead = `/api/leads/${chance.pick(this.leads)}`;
      const what = chance.below(10);
      const owner = chance.pick([null, ...this.users]);
      const status = chance.pick(STATUSES);
      if (what < 5) await this.ask('PATCH', lead, { title, ...(what < 2 ? { status } : {}) });
      else if (what < 8) await this.ask('POST', `${lead}/activities`, { type: 'NOTE', body: title });
      else if (what < 9) await this.ask('POST', `${lead}/assign`, { ownerId: owner?.id ?? null });
      else await this.ask('POST', '/api/leads', { title, email: 'b@secret.example' });
    }
  }

  /** Sends a request as an admin; acknowledged changes must be in the log. */
  async ask(method, path, body) {
    const answer = await this.server.call(method, path, { token: this.admin.token, body }).catch(() => null);
    if (!answer) return;
    // A viewer cannot own leads, and the current role is not known here.
    const isFine = answer.status < 300 || answer.status === 503 || (path.endsWith('/assign') && answer.status === 422);
    assert.ok(isFine, `${method} ${path}: ${JSON.stringify(answer.body)}`);
    if (answer.status < 300 && body.title) this.answered.push({ id: answer.body.id, title: body.title });
    if (answer.status < 300 && body.body) this.answered.push({ id: answer.body.id, title: body.body });
  }
}

/** The whole log, event by event, as an admin would have received it. */
async function readLog(server, admin, users) {
  const probe = io(server.url, { forceNew: true, transports: ['websocket'], auth: { token: admin.token } });
  const { seq: head } = await new Promise((fulfil) => probe.once('connected', fulfil));
  probe.disconnect();
  const lines = [];
  for (let seq = 1; seq <= head; seq += 1) {
    lines.push(await admin.api('GET', `/api/events/${seq}/explain?role=ADMIN`));
  }
  return new Log(lines, users);
}

class Log {
  constructor(told, users) {
    this.head = told.length;
    this.own = new Map(users.map(({ id, role }) => [id, { seqs: [], roles: [{ seq: 0, role }] }]));
    this.switches = told.filter(({ name }) => name === 'delivery:switched').map(({ seq }) => seq);
    this.lines = [];
    const owners = new Map();
    for (const { name, seq, rooms, leadId, payload: event } of told) {
      const own = rooms.map((room) => this.own.get(room.replace(/^user:/, ''))).find(Boolean);
      if (own) own.seqs.push(seq);
      if (own && name === 'session:updated') own.roles.push({ seq, role: event.userRole });
      if (!name.startsWith('lead:') && !name.startsWith('activity:')) continue;
      const before = owners.get(leadId) ?? null;
      if (event.lead) owners.set(leadId, event.lead.owner?.id ?? null);
      this.lines.push({ name, seq, leadId, before, owner: owners.get(leadId), event });
    }
  }

  has(id, title) {
    return this.lines.some(({ event }) => {
      const { lead, activity } = event;
      return (lead?.id === id && lead.title === title) || (activity?.id === id && activity.body === title);
    });
  }

  /** The roles for which an event may have been shaped: the one at its position, or any later one if it was replayed. */
  roles(user, seq) {
    const { roles } = this.own.get(user.id);
    const at = roles.findLastIndex((change) => change.seq < seq);
    return roles.slice(at).map(({ role }) => role);
  }

  /** Events that a client must have received, and those that it may have received. */
  expected(client) {
    if (client.expected) return client.expected;
    const { user, from, follows } = client;
    const must = new Set(this.own.get(user.id).seqs.filter((seq) => seq > from));
    const may = new Set(must);
    for (const { name, seq, leadId, before, owner } of this.lines) {
      const isActivity = name.startsWith('activity:');
      if (seq <= from || (isActivity && !follows.has(leadId))) continue;
      // Users who saw it before get `lead:revoked`.
      const owners = name === 'lead:created' || isActivity ? [owner] : [before, owner];
      const seesIt = (role, owner) => role !== 'SALES' || owner === null || owner === user.id;
      const sees = this.roles(user, seq).map((role) => owners.some((owner) => seesIt(role, owner)));
      if (sees.some(Boolean)) may.add(seq);
      // A replay leaves out the activities of a lead that is hidden by then.
      const later = isActivity ? this.lines.filter((line) => line.leadId === leadId && line.seq > seq) : [];
      const stays = this.roles(user, seq).every((role) => later.every(({ owner }) => seesIt(role, owner)));
      if (sees.every(Boolean) && stays) must.add(seq);
    }
    return (client.expected = { must, may });
  }

  missing(client) {
    const told = new Set(client.seqs);
    const isExcused = (seq) => client.resets.some((reset) => reset.heard < seq && seq <= reset.seq);
    return [...this.expected(client).must].filter((seq) => !told.has(seq) && !isExcused(seq));
  }

  /** The first events that a client is missing, and the history of its connections around them. */
  story(client) {
    const missing = this.missing(client);
    const names = missing.slice(0, 3).map((seq) => this.lines.find((line) => line.seq === seq)?.name ?? 'its own');
    const around = client.story.filter(([seq]) => seq > missing[0] - 300 && seq < missing[0] + 100);
    return `${names}; ${around.map(([seq, what]) => `${seq} ${what}`).join(', ')}`;
  }

  /** No client gets `sync:reset` without a reason. */
  reasons({ user, resets, from, label }) {
    const lines = [...this.switches, ...this.own.get(user.id).roles.map((change) => change.seq)];
    for (const { seq } of resets) {
      assert.ok(lines.some((line) => line > from && line <= seq), `${label} was reset at ${seq} for nothing`);
    }
  }

  judge(client) {
    const { label, user, seqs, shapes, errors, isHelper } = client;
    const { may } = this.expected(client);
    assert.deepEqual(errors, [], label);
    assert.deepEqual(seqs.filter((seq) => !may.has(seq)), [], `${label} got events that it must not see`);
    assert.equal(new Set(seqs).size, seqs.length, `${label} was told something twice`);
    this.reasons(client);
    // A helper gets replayed events of a lead after those for everyone, as its README says.
    if (!isHelper) assert.deepEqual(seqs, [...seqs].sort((left, right) => left - right), `${label}, the order`);
    for (const [seq, hasAddress] of shapes) {
      const fits = this.roles(user, seq).some((role) => hasAddress === (role !== 'VIEWER'));
      assert.ok(fits, `${label} ${hasAddress ? 'saw' : 'did not see'} the address in ${seq}`);
    }
  }
}

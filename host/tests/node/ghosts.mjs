// Environment for the ghost-row test: users of all roles, clients that keep lists, writers, and changes of visibility.
//
// It runs on its own server, which it kills, restarts with another `[visibility]`, and whose plugins it changes; or on
// given nodes, where it uses only HTTP.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { io } from 'socket.io-client';
import { Leadwire } from '../../../clients/js/dist/index.js';
import { LIST_EVENTS, LeadList, brief, differences, walk } from './lists.mjs';
import { Proxy } from './proxy.mjs';
import { PASSWORD, Server, dice, resume, until } from './support.mjs';

const STAFF = ['SALES', 'VIEWER', 'MANAGER', 'SALES', 'SALES', 'ADMIN', 'VIEWER', 'SALES', 'MANAGER', 'SALES'];
const KINDS = ['helper', 'resuming', 'plain'];
const TRANSPORTS = [['websocket'], ['polling', 'websocket'], ['websocket'], ['polling']];
const STATUSES = ['NEW', 'CONTACTED', 'QUALIFIED', 'PROPOSAL', 'NEGOTIATION', 'WON', 'LOST', 'UNQUALIFIED'];
const TERRITORIES = ['north', 'east', 'south', 'west'];
const VISIBILITIES = ['all', 'own', 'own+unassigned'];
const WRITERS = 6;
const CUT_EVERY = 25;
/** Maximum time to settle: resets and reconnects after a restart are paced. */
const PATIENCE = 90_000;

export class World {
  /** Starts its own server, or uses the nodes at these addresses as this administrator: `{email, password}`. */
  static async build(t, { clients, seed, nodes = [], admin }) {
    const world = new World();
    Object.assign(world, { seed, chance: dice(seed), users: [], clients: [], leads: [], deleted: [], notes: [] });
    Object.assign(world, { journal: [], written: 0, faults: [], statuses: {}, counts: {}, isUp: Promise.resolve() });
    if (nodes.length) world.nodes = nodes.map((url) => Object.assign(Object.create(Server.prototype), { url, sockets: [] }));
    else await world.serve(t);
    t.after(() => [...world.clients, world.witness].forEach((client) => client?.leave()));
    world.root = await world.signIn(admin ?? { email: 'admin@example.com', password: PASSWORD });
    await world.hire(Math.max(10, Math.ceil(clients / 2)));
    for (let number = 0; number < 60; number += 1) await world.create(world.chance, world.root);
    for (let number = 0; number < clients; number += 1) world.clients.push(new Client(world, number));
    await inParts(world.clients, 10, (client) => client.enter());
    // Receives everything and records it for debugging.
    world.witness = new Client(world, 0, { ...world.root, kind: 'helper' });
    await world.witness.enter();
    return world;
  }

  async serve(t) {
    this.visibility = { SALES: 'own+unassigned' };
    const plugins = { 'redact-contact': redaction(['VIEWER'], ['email']), territory: territories(false, {}) };
    this.server = await Server.start(t, { settings: this.settings(), plugins });
    this.plugins = { ...plugins };
    this.nodes = [this.server];
    this.proxy = await Proxy.listen(t, Number(new URL(this.server.url).port));
  }

  settings() {
    const roles = Object.entries(this.visibility).map(([role, what]) => `${role} = "${what}"\n`);
    // A stock client whose WebSocket is cut during the upgrade detects it only by the heartbeat.
    return `[socket]\nping_interval = "4s"\nping_timeout = "8s"\n[limits]\nconnections_per_address = 100000\n[visibility]\n${roles.join('')}`;
  }

  /** The address to which the client of that number connects. */
  address(number) {
    return this.proxy?.url ?? this.nodes[number % this.nodes.length].url;
  }

  call(method, path, options) {
    return this.nodes[this.written % this.nodes.length].call(method, path, options);
  }

  async signIn({ email, password = PASSWORD, ...user }) {
    const { status, body } = await this.call('POST', '/api/auth/login', { body: { email, password } });
    assert.equal(status, 200, `${email}: ${JSON.stringify(body)}`);
    return { ...user, ...body.user, password, token: body.accessToken };
  }

  async hire(count) {
    for (let number = 0; number < count; number += 1) {
      const email = `ghosts-${this.seed}-${number}@example.com`;
      const body = { email, name: `User ${number}`, role: STAFF[number % STAFF.length], password: PASSWORD };
      const answer = await this.call('POST', '/api/users', { token: this.root.token, body });
      assert.equal(answer.status, 201, JSON.stringify(answer.body));
      this.users.push(await this.signIn({ email, number, active: true }));
    }
  }

  /** Makes a number of writes with disturbances in between, waits until all settle, and returns wrong rows. */
  async round(writes, turns) {
    const end = this.written + writes;
    const begin = this.written;
    const conduct = async () => {
      for (const [at, turn] of turns.entries()) {
        const due = begin + (writes * (at + 1)) / (turns.length + 1);
        await until(`write ${due}`, () => this.written >= due, PATIENCE);
        await this.turn(turn);
      }
    };
    this.started = this.written;
    await Promise.all([conduct(), ...Array.from({ length: WRITERS }, () => this.write(end))]);
    return this.rest();
  }

  async write(end) {
    while (this.started < end) {
      const number = (this.started += 1);
      const chance = dice(this.seed + number);
      await this.isUp;
      if (number % CUT_EVERY === 0) this.proxy?.cut(chance);
      await this.act(chance);
      this.written += 1;
    }
  }

  /** One write. */
  async act(chance) {
    const actor = chance.next() < 0.5 ? this.root : chance.pick(this.users);
    const lead = `/api/leads/${chance.pick(this.leads)}`;
    const [note, deleted] = [chance.pick(this.notes), chance.pick(this.deleted)];
    const owner = () => chance.pick([null, ...this.users]);
    const what = chance.below(100);
    if (what < 28) return this.ask('PATCH', lead, patch(chance), actor);
    if (what < 36) return this.bySocket(chance);
    if (what < 54) return this.ask('POST', `${lead}/assign`, { ownerId: owner()?.id ?? null }, actor);
    if (what < 66) return this.create(chance, actor);
    if (what < 71) return this.remove(chance);
    if (what < 76) return deleted ? this.restore(deleted) : undefined;
    if (what < 92) return this.addNote(lead, chance, actor);
    if (what < 95) return note && this.ask('PATCH', `/api/activities/${note}`, { body: `Note ${chance.below(1e6)}` }, this.root);
    if (what < 97) return note && this.ask('DELETE', `/api/activities/${note}`, undefined, this.root);
    return this.ask('PATCH', `/api/users/${chance.pick(this.users).id}`, { name: `Name ${chance.below(1e6)}` }, this.root);
  }

  async create(chance, actor) {
    const owner = chance.next() < 0.5 && actor.role !== 'SALES' ? chance.pick(this.users) : undefined;
    const body = { title: `Lead ${chance.below(1e6)}`, email: 'a@secret.example', ...patch(chance) };
    const { status, body: lead } = await this.ask('POST', '/api/leads', body, actor);
    if (status !== 201) return;
    this.leads.push(lead.id);
    if (owner) await this.ask('POST', `/api/leads/${lead.id}/assign`, { ownerId: owner.id }, this.root);
  }

  async remove(chance) {
    if (this.leads.length < 30) return;
    const [id] = this.leads.splice(chance.below(this.leads.length), 1);
    await this.ask('DELETE', `/api/leads/${id}`, undefined, this.root);
    this.deleted.push(id);
  }

  async restore(id) {
    this.deleted.splice(this.deleted.indexOf(id), 1);
    await this.ask('POST', `/api/leads/${id}/restore`, undefined, this.root);
    this.leads.push(id);
  }

  async addNote(lead, chance, actor) {
    const body = { type: 'NOTE', body: `Note ${chance.below(1e6)}` };
    const { status, body: note } = await this.ask('POST', `${lead}/activities`, body, actor);
    if (status === 201) this.notes.push(note.id);
  }

  /** A change by one of the clients, over its socket. */
  async bySocket(chance) {
    const { socket } = chance.pick(this.clients);
    const leadId = chance.pick(this.leads);
    if (socket.connected) await socket.timeout(2000).emitWithAck('lead:update', { leadId, patch: patch(chance) }).catch(() => {});
  }

  /** A call that may be refused: by rights, by state, or because the server is being killed. */
  async ask(method, path, body, { token }) {
    const answer = await this.call(method, path, { token, body }).catch(() => ({ status: 0, body: null }));
    const { status } = answer;
    this.statuses[status] = (this.statuses[status] ?? 0) + 1;
    if (status === 500) this.faults.push(`${method} ${path}: ${JSON.stringify(answer.body)}`);
    if (status === 0) await sleep(20);
    return answer;
  }

  /** A call that is retried until it is answered. */
  async insist(method, path, body) {
    return until(`${method} ${path}`, async () => {
      const answer = await this.ask(method, path, body, this.root);
      return answer.status > 0 && answer.status < 300 && answer;
    });
  }

  say(text) {
    this.journal.push(`after write ${this.written}, seq ${this.witness.seq}: ${text}`);
  }

  /** A disturbance: changes visibility, users or connections. */
  async turn(what) {
    if (!this.server && ['kill', 'restart', 'plugin'].includes(what)) return;
    this.counts[what] = (this.counts[what] ?? 0) + 1;
    await this[what]();
  }

  async role() {
    const user = this.chance.pick(this.users);
    const role = this.chance.pick(['SALES', 'VIEWER', 'MANAGER', 'ADMIN'].filter((role) => role !== user.role));
    await this.insist('PATCH', `/api/users/${user.id}`, { role });
    this.say(`${user.email} is ${role}, was ${user.role}`);
    user.role = role;
  }

  /** Deactivates a user, or reactivates all deactivated ones. */
  async user() {
    const away = this.users.filter(({ active }) => !active);
    if (away.length < 2) {
      const user = this.chance.pick(this.users.filter(({ active }) => active));
      await this.insist('PATCH', `/api/users/${user.id}`, { active: false });
      user.active = false;
      return this.say(`${user.email} is deactivated`);
    }
    for (const user of away) {
      // Their visibility has usually changed by now.
      if (this.chance.next() < 0.5) user.role = this.chance.pick(['SALES', 'VIEWER', 'MANAGER']);
      await this.insist('PATCH', `/api/users/${user.id}`, { active: true, role: user.role });
      Object.assign(user, await this.signIn(user), { role: user.role });
      this.say(`${user.email} is back, as ${user.role}`);
      for (const client of this.clients.filter((client) => client.user === user)) client.comeBack();
    }
  }

  /** Logs a user out everywhere; their clients sign in again and resume. */
  async logout() {
    const user = this.chance.pick(this.users.filter(({ active }) => active));
    await this.ask('POST', '/api/auth/logout-all', undefined, user);
    this.say(`${user.email} signed out everywhere`);
    Object.assign(user, await until('a login', () => this.signIn(user).catch(() => null)), { role: user.role });
  }

  /** Closes a page and opens it again. */
  async page() {
    const client = this.chance.pick(this.clients);
    client.socket.disconnect();
    await client.anew();
    this.say(`${client.label} was opened anew`);
  }

  async plugin() {
    const { chance } = this;
    const name = chance.pick(Object.keys(this.plugins));
    const sales = this.users.filter(({ role }) => role === 'SALES');
    const some = (list) => list.filter(() => chance.next() < 0.5);
    // A disabled plugin is enabled: other changes of its settings would have no effect.
    const isOn = this.plugins[name].startsWith('enabled = true');
    const settings = () => {
      const isEnabled = !isOn || chance.next() < 0.75;
      if (name === 'redact-contact') {
        const fields = chance.pick([['email'], ['email', 'phone'], ['phone', 'valueCents'], ['company']]);
        return redaction(chance.pick([['VIEWER'], ['VIEWER', 'SALES'], ['SALES']]), fields, isEnabled);
      }
      return territories(isEnabled, Object.fromEntries(sales.map(({ id }) => [id, some(TERRITORIES)])));
    };
    const before = (await this.insist('GET', '/api/plugins')).body.generation;
    let next = settings();
    while (next === this.plugins[name]) next = settings();
    this.plugins[name] = next;
    this.server.replace(`${name}.toml`, next);
    await until(() => `${name} to be in force with ${next}`, async () => {
      const { body } = await this.ask('GET', '/api/plugins', undefined, this.root);
      return body?.generation > before;
    });
    this.say(`${name}: ${next.replaceAll('\n', ' ')}`);
  }

  async kill() {
    await this.down('SIGKILL');
    this.say('the server was killed and started again');
  }

  async restart() {
    const role = this.chance.pick(['SALES', 'SALES', 'VIEWER', 'MANAGER']);
    const others = VISIBILITIES.filter((what) => what !== (this.visibility[role] ?? 'all'));
    this.visibility = { ...this.visibility, [role]: this.chance.pick(others) };
    await this.down('SIGTERM');
    this.say(`the server was started again with [visibility] ${JSON.stringify(this.visibility)}`);
  }

  async down(signal) {
    let up;
    this.isUp = new Promise((fulfil) => (up = fulfil));
    const { host } = new URL(this.server.url);
    await this.server.end(signal);
    this.server.configure(this.settings());
    await this.server.serve(host);
    up();
  }

  /** Waits until every list is correct; returns the wrong rows after the timeout. */
  async rest() {
    let wrong = this.clients.filter(({ user }) => user.active).map((client) => ({ client, found: [] }));
    const deadline = Date.now() + PATIENCE;
    await inParts(wrong, 10, ({ client }) => client.settled(deadline));
    while (wrong.length && Date.now() < deadline) {
      await inParts(wrong, 5, async (entry) => (entry.found = await entry.client.differences()));
      wrong = wrong.filter(({ found }) => found.length);
      if (wrong.length) await sleep(200);
    }
    this.comparisons = (this.comparisons ?? 0) + this.clients.length;
    return wrong;
  }

  /** Debugging information about a wrong row. */
  async diagnose({ client, found }) {
    const { id, what, fields } = found[0];
    const read = async (user) => {
      const { status, body } = await this.ask('GET', `/api/leads/${id}`, undefined, user);
      return `${status} ${status === 200 ? brief(body) : body?.code}`;
    };
    const seqs = [...(this.witness.list.notes.get(id) ?? [])].map((note) => /^seq (\d+)/.exec(note)?.[1]).filter(Boolean);
    const explain = async (seq) => {
      const path = `/api/events/${seq}/explain?userId=${client.user.id}`;
      const { status, body } = await this.ask('GET', path, undefined, this.root);
      return `  ${seq}: ${status} ${JSON.stringify(body).slice(0, 600)}`;
    };
    return [
      `${client.label} (${client.user.role}): ${what} ${id}, one of ${found.length} rows`,
      ...fields.map(({ field, shown, listed }) => `  ${field}: shown ${JSON.stringify(shown)}, listed ${JSON.stringify(listed)}`),
      `in the list: ${brief(client.list.leads.get(id)) || 'no'}`,
      `read by ${client.user.email}: ${await read(client.user)}`,
      `read by the administrator: ${await read(this.root)}`,
      `events that the client got about it, and its connects and disconnects:`,
      ...[...(client.list.notes.get(id) ?? [])].map((note) => `  ${note}`),
      ...client.journal.slice(-25).map((note) => `  ~ ${note}`),
      `events that an administrator got about it:`,
      ...[...(this.witness.list.notes.get(id) ?? [])].map((note) => `  ${note}`),
      `other actions:`,
      ...this.journal.slice(-25).map((note) => `  ${note}`),
      `the last of these events, as explained for ${client.user.email}:`,
      ...(await Promise.all(seqs.slice(-3).map(explain))),
    ].join('\n');
  }
}

/** One client with a list: a helper, a stock socket that resumes, or a stock socket that fetches again. */
class Client {
  constructor(world, number, user) {
    const { users } = world;
    const place = Math.floor(number / users.length);
    this.kind = user?.kind ?? KINDS[(number + place) % KINDS.length];
    this.user = user ?? users[number % users.length];
    this.transports = user ? ['websocket'] : TRANSPORTS[(number + place) % TRANSPORTS.length];
    this.label = `client ${number} of ${this.user.email}, ${this.kind}, ${this.transports.join()}`;
    Object.assign(this, { world, number, journal: [], resets: 0, recoveries: 0, seq: 0 });
  }

  /** Connects, then fetches. */
  async enter() {
    this.token = (await this.world.signIn(this.user)).token;
    await this.anew();
  }

  /** Opens a page: a new socket and a new list. */
  async anew() {
    const { kind, transports, world, number } = this;
    if (this.list) this.list.isOver = true;
    const list = (this.list = new LeadList((path) => this.read(path)));
    const options = { forceNew: true, autoConnect: false, transports, reconnectionDelay: 100, reconnectionDelayMax: 500 };
    const socket = (this.socket = io(world.address(number), { ...options, auth: { token: this.token } }));
    socket.onAny((name, event) => {
      if (event?.seq) this.seq = Math.max(this.seq, event.seq);
      if (name === 'session:updated') this.journal.push(`seq ${event.seq} session:updated ${event.userRole}`);
    });
    socket.on('connected', ({ seq, recovered, userRole }) => {
      this.journal.push(`connected at ${seq} as ${userRole}, recovered ${recovered}`);
      this.recoveries += recovered;
    });
    socket.on('disconnect', (reason) => this.journal.push(`disconnected behind ${this.seq}: ${reason}`));
    socket.on('sync:reset', ({ seq }) => {
      this.journal.push(`sync:reset at ${seq}`);
      this.resets += 1;
    });
    if (kind === 'helper') {
      const refresh = async () => (this.token = (await world.signIn(this.user)).token);
      this.leadwire = new Leadwire(socket, { token: this.token, refresh });
      for (const name of LIST_EVENTS) this.leadwire.on(name, (event) => list.take(name, event));
      this.leadwire.on('reset', () => list.fetch());
      await this.leadwire.connect().then(() => list.fetch(), (error) => this.journal.push(`refused: ${error.message}`));
      return;
    }
    socket.onAny((name, event) => LIST_EVENTS.includes(name) && list.take(name, event));
    socket.on('sync:reset', () => list.fetch());
    if (kind === 'resuming') resume(socket);
    socket.on('connected', () => (kind === 'plain' || !list.asked) && list.fetch());
    socket.on('connect_error', () => socket.active || this.renew());
    socket.connect();
  }

  /** Signs in again, if the user may. */
  async renew() {
    const { socket } = this;
    try {
      this.token = (await this.world.signIn(this.user)).token;
    } catch {
      return;
    }
    socket.auth.token = this.token;
    if (socket === this.socket && !socket.active) socket.connect();
  }

  /** The user may sign in again. */
  comeBack() {
    if (this.socket.connected || this.socket.active) return;
    if (this.kind !== 'helper') return void this.renew();
    const { list } = this;
    // If it never connected, nothing was fetched yet.
    this.leadwire.connect().then(() => list.asked || list.fetch(), (error) => this.journal.push(`refused: ${error.message}`));
  }

  async read(path) {
    const { status, body } = await this.world.call('GET', path, { token: this.token });
    if (status === 200) return body;
    // A client that was logged out everywhere signs in again.
    if (status === 401 && this.user.active) this.token = (await this.world.signIn(this.user)).token;
    throw new Error(`GET ${path}: ${status} ${body?.code}`);
  }

  /** Waits until it is connected and has no fetch in progress. */
  async settled(deadline) {
    await until(() => `${this.label} to be connected: ${this.journal.slice(-5).join('; ')}`, () => {
      this.comeBack();
      return this.socket.connected && this.list.asked && !this.list.fetching;
    }, Math.max(0, deadline - Date.now()));
  }

  async differences() {
    if (this.list.fetching || !this.socket.connected) return [{ id: 'none', what: 'not settled', fields: [] }];
    try {
      return differences(this.list.leads, await walk((path) => this.read(path)));
    } catch (error) {
      return [{ id: 'none', what: `cannot compare: ${error.message}`, fields: [] }];
    }
  }

  leave() {
    this.list.isOver = true;
    this.leadwire?.disconnect();
    this.socket.disconnect();
  }
}

function patch(chance) {
  const fields = {
    title: () => `Title ${chance.below(1e6)}`,
    status: () => chance.pick(STATUSES),
    company: () => `Company ${chance.below(100)}`,
    valueCents: () => chance.below(1e6),
    email: () => `a${chance.below(1e6)}@secret.example`,
    custom: () => ({ territory: chance.pick(TERRITORIES) }),
  };
  const names = Object.keys(fields).filter(() => chance.next() < 0.35);
  if (!names.length) names.push('custom');
  return Object.fromEntries(names.map((name) => [name, fields[name]()]));
}

const redaction = (roles, fields, isEnabled = true) =>
  `enabled = ${isEnabled}\n[config]\nroles = ${JSON.stringify(roles)}\nfields = ${JSON.stringify(fields)}\n`;

const territories = (isEnabled, of) => {
  const lines = Object.entries(of).map(([id, names]) => `"${id}" = ${JSON.stringify(names)}\n`);
  return `enabled = ${isEnabled}\n[config.territories]\n${lines.join('')}`;
};

async function inParts(list, size, act) {
  const left = [...list];
  const work = async () => {
    while (left.length) await act(left.shift());
  };
  await Promise.all(Array.from({ length: size }, work));
}

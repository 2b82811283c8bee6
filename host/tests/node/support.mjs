// Starts the real server on a free port with its own users, and talks to it like a client.
//
// Nothing here waits for a fixed time: `until` and `next` wait for an event and report which one did not occur.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { io } from 'socket.io-client';

const root = resolve(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '../../..');
export const binary = process.env.LEADWIRE_TEST_BIN ?? join(root, 'target/debug/leadwire');
export const builtPlugins = process.env.LEADWIRE_TEST_PLUGINS ?? join(root, 'target/plugins');

export const ROLES = ['ADMIN', 'MANAGER', 'SALES', 'VIEWER'];
export const PASSWORD = 'correct horse battery';
const PATIENCE = 20_000;

// Cheap hashing and no login limits: these tests cover neither.
const SETTINGS = `
[auth.password_hash]
memory_kib = 64
iterations = 1
[auth.login_limits]
per_account_per_minute = 100000
per_address_per_minute = 100000
strangers_per_account_per_minute = 100000
waiting = 100000
`;

export class Server {
  constructor(t, { settings = '' } = {}) {
    assert.ok(existsSync(binary), `${binary} is missing: cargo xtask plugins builds it`);
    this.home = mkdtempSync(join(tmpdir(), 'leadwire-'));
    this.plugins = join(this.home, 'plugins');
    this.log = '';
    this.sockets = [];
    mkdirSync(this.plugins);
    this.configure(settings);
    t.after(() => this.close());
  }

  /** Applies at the next start of the server. */
  configure(settings) {
    writeFileSync(join(this.home, 'leadwire.toml'), settings + SETTINGS);
  }

  /** A running server with one user per role. */
  static async start(t, options = {}) {
    const server = new Server(t, options);
    for (const role of ROLES) await server.addUser(role);
    for (const [name, settings] of Object.entries(options.plugins ?? {})) server.plugin(name, settings);
    await server.serve();
    return server;
  }

  /** Runs a subcommand to its end. */
  async run(args, input = '') {
    const child = spawn(binary, args, { cwd: this.home, env: environment() });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (said += text));
    // A subcommand that reads no input may end before it is written.
    child.stdin.on('error', () => {}).end(input);
    const [status] = await once(child, 'close');
    assert.equal(status, 0, `leadwire ${args.join(' ')}: ${said}`);
  }

  async addUser(role, email = emailOf(role)) {
    const name = `${role[0]}${role.slice(1).toLowerCase()} User`;
    const args = ['user', 'add', '--email', email, '--name', name, '--role', role, '--password-stdin'];
    await this.run(args, `${PASSWORD}\n`);
  }

  /** Installs a built plugin and its settings in the plugin folder; the old file is replaced atomically. */
  plugin(name, settings, file = join(builtPlugins, `${name}.wasm`)) {
    assert.ok(existsSync(file), `${file} is missing: cargo xtask plugins builds it`);
    if (settings !== undefined) this.replace(`${name}.toml`, settings);
    const partial = join(this.plugins, `${name}.partial`);
    copyFileSync(file, partial);
    renameSync(partial, join(this.plugins, `${name}.wasm`));
  }

  replace(file, content) {
    const partial = join(this.plugins, `${file}.partial`);
    writeFileSync(partial, content);
    renameSync(partial, join(this.plugins, file));
  }

  async serve(listen = '127.0.0.1:0') {
    const args = ['serve', '--listen', listen, '--plugins', this.plugins];
    this.process = spawn(binary, args, { cwd: this.home, env: environment(), stdio: ['ignore', 'pipe', 'pipe'] });
    this.process.stderr.setEncoding('utf8').on('data', (text) => (this.log += text));
    const lines = createInterface({ input: this.process.stdout });
    const ended = once(this.process, 'exit').then(([code]) => assert.fail(`serve ended with ${code}: ${this.log}`));
    ended.catch(() => {});
    const [line] = await Promise.race([once(lines, 'line'), ended]);
    assert.match(line, /^leadwire listening on http:\/\/127\.0\.0\.1:\d+$/);
    this.url = line.slice('leadwire listening on '.length);
  }

  async end(signal) {
    if (!this.process || this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = once(this.process, 'exit');
    this.process.kill(signal);
    await ended;
  }

  async close() {
    try {
      // The shutdown would wait for a pending poll: close the sockets first.
      const gone = (socket) => !socket.io.engine || socket.io.engine.readyState === 'closed';
      for (const socket of this.sockets) socket.disconnect();
      await until('sockets to close', () => this.sockets.every(gone));
      await this.end('SIGTERM');
    } finally {
      this.process?.kill('SIGKILL');
      rmSync(this.home, { recursive: true, force: true });
    }
    assert.doesNotMatch(this.log, /panicked/);
  }

  async login(role, email = emailOf(role)) {
    const answer = await this.call('POST', '/api/auth/login', { body: { email, password: PASSWORD } });
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    return answer.body;
  }

  async call(method, path, { token, body, headers = {} } = {}) {
    const response = await fetch(this.url + path, {
      method,
      headers: {
        ...(token ? { authorization: `Bearer ${token}` } : {}),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: text ? JSON.parse(text) : null };
  }

  /** A call that must succeed; returns the body. */
  async ok(method, path, options) {
    const answer = await this.call(method, path, options);
    assert.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }

  /** A user of that role: `api` calls with their token, `user` is the account. */
  async person(role, email) {
    const { accessToken: token, refreshToken, user } = await this.login(role, email);
    const api = (method, path, body, headers) => this.ok(method, path, { token, body, headers });
    return { role, token, refreshToken, user, api };
  }

  /** A connected stock client that records all events. */
  async socket(token, options = {}) {
    const socket = io(this.url, { forceNew: true, auth: { token }, ...options });
    this.sockets.push(socket);
    socket.heard = [];
    socket.onAny((name, data) => socket.heard.push({ name, data }));
    await new Promise((fulfil, reject) => socket.once('connected', fulfil).once('connect_error', reject));
    return socket;
  }
}

export const emailOf = (role) => `${role.toLowerCase()}@example.com`;

/** Waits until `look` returns a truthy value. */
export async function until(what, look, patience = PATIENCE) {
  const deadline = Date.now() + patience;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) assert.fail(`timed out waiting for ${typeof what === 'function' ? what() : what}`);
    await new Promise((fulfil) => setTimeout(fulfil, 10));
  }
}

/** The first matching event of that name, already received or still to come. */
export async function heard(socket, name, fits = () => true) {
  const find = () => socket.heard.find((event) => event.name === name && fits(event.data));
  return (await until(() => `${name}, heard: ${JSON.stringify(socket.heard)}`, find)).data;
}

export const events = (socket, name) => socket.heard.filter((event) => event.name === name).map((event) => event.data);

/** Breaks a stock client's connection without a close packet; the client reconnects. */
export async function lose(socket) {
  const { engine, uri } = socket.io;
  const isLost = new Promise((fulfil) => engine.once('close', fulfil));
  if (engine.transport.name === 'websocket') engine.transport.ws.terminate();
  // A polling client that closes sends a close packet. An invalid packet ends the session instead.
  else await fetch(`${uri}/socket.io/?EIO=4&transport=polling&sid=${engine.id}`, { method: 'POST', body: 'nonsense' });
  await isLost;
}

/** Sends the last seq in each handshake, as PROTOCOL.md describes. */
export function resume(socket) {
  socket.onAny((name, event) => {
    if (name === 'connected' && socket.auth.since !== undefined) return;
    if (event?.seq && event.epoch) Object.assign(socket.auth, { since: event.seq, epoch: event.epoch });
  });
}

/** Seeded random numbers from 0 to 1, and helpers that draw with them. */
export function dice(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (limit) => Math.floor(next() * limit);
  return { next, below, pick: (list) => list[below(list.length)] };
}

function environment() {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('LEADWIRE_')));
}

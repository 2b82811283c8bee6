// Engine.IO by hand: the raw packets, without a client library that would repair or hide them.

import assert from 'node:assert/strict';
import { WebSocket } from 'ws';
import { until } from './support.mjs';

/** Separator between the packets of a polling payload. */
export const RECORD = '\x1e';

export const address = (server, query) => `${server.url}/socket.io/?${new URLSearchParams(query)}`;

const POLLING = { EIO: 4, transport: 'polling' };
const WEB_SOCKET = { EIO: 4, transport: 'websocket' };

/** A polling session. Packets that were received but not yet read are in `packets`. */
export class Polling {
  constructor(server, open) {
    this.server = server;
    this.open = open;
    this.packets = [];
  }

  static async open(server, headers = {}) {
    const response = await fetch(address(server, POLLING), { headers });
    assert.equal(response.status, 200);
    return new Polling(server, JSON.parse((await response.text()).replace(/^0/, '')));
  }

  /** A session that has connected to the namespace. */
  static async connect(server, token, auth = {}) {
    const session = await Polling.open(server);
    await session.post(`40${JSON.stringify({ token, ...auth })}`);
    await session.next((packet) => packet.startsWith('42["connected"'));
    return session;
  }

  get address() {
    return address(this.server, { ...POLLING, sid: this.open.sid });
  }

  /** One poll: its status and, on success, its packets. */
  async poll(options = {}) {
    const response = await fetch(this.address, options);
    const text = await response.text();
    return { status: response.status, packets: response.status === 200 && text ? text.split(RECORD) : [] };
  }

  async post(...packets) {
    const response = await fetch(this.address, { method: 'POST', body: packets.join(RECORD) });
    return { status: response.status, text: await response.text() };
  }

  /** Takes the first matching packet, polling until there is one; pings are answered. */
  async next(fits = () => true) {
    for (;;) {
      const at = this.packets.findIndex(fits);
      if (at >= 0) return this.packets.splice(at, 1)[0];
      const { status, packets } = await this.poll();
      assert.equal(status, 200, `the session has ended: ${this.packets}`);
      if (packets.includes('2')) await this.post('3');
      this.packets.push(...packets.filter((packet) => packet !== '2'));
    }
  }

  /** Polls until the session is refused. */
  async ended() {
    await until('the session to end', async () => (await this.poll()).status === 400);
  }
}

/** A WebSocket that records every frame: text as text, the rest as bytes. */
export class Line {
  constructor(server, query = WEB_SOCKET) {
    this.frames = [];
    this.isClosed = false;
    this.ws = new WebSocket(address(server, query).replace(/^http/, 'ws'));
    this.ws.on('message', (data, isBinary) => this.frames.push(isBinary ? data : data.toString()));
    this.ws.on('unexpected-response', (request, response) => {
      this.status = response.statusCode;
      this.isClosed = true;
      request.destroy();
    });
    this.ws.on('close', () => (this.isClosed = true));
    this.ws.on('error', () => (this.isClosed = true));
  }

  static async open(server, query) {
    const line = new Line(server, query);
    const opening = await line.next((frame) => frame[0] === '0');
    line.open = JSON.parse(opening.slice(1));
    return line;
  }

  /** A session that has connected to the namespace. */
  static async connect(server, token, auth = {}) {
    const line = await Line.open(server);
    line.send(`40${JSON.stringify({ token, ...auth })}`);
    line.greeting = await line.next((frame) => frame.startsWith('40'));
    line.connected = JSON.parse((await line.next((frame) => frame.startsWith('42["connected"'))).slice(2))[1];
    return line;
  }

  /** A WebSocket to which a polling session can upgrade. */
  static async besides(polling) {
    const line = new Line(polling.server, { ...WEB_SOCKET, sid: polling.open.sid });
    await until('the WebSocket', () => line.isClosed || line.ws.readyState === WebSocket.OPEN);
    return line;
  }

  send(...frames) {
    for (const frame of frames) this.ws.send(frame);
  }

  /** Takes the first matching frame. */
  async next(fits = (frame) => frame !== '2') {
    const at = () => this.frames.findIndex(fits);
    await until(() => `a frame, heard: ${this.frames}`, () => {
      assert.ok(at() >= 0 || !this.isClosed, `closed; heard: ${this.frames}`);
      return at() >= 0;
    });
    return this.frames.splice(at(), 1)[0];
  }

  async closed() {
    await until(() => `the end of the connection, heard: ${this.frames}`, () => this.isClosed);
  }

  close() {
    this.ws.terminate();
  }
}

/**
 * Keeps a stock socket where it was.
 *
 * Remembers the last `seq`, says it in each handshake, hands every event on once, follows leads again and renews
 * tokens. All of it is also possible with `socket.io-client` alone: see "Coming back" in the server's PROTOCOL.md.
 */
import type { Socket } from 'socket.io-client';
import type { LogEvents, SocketEvents } from './events.js';

export type * from './events.js';

/** Where a client is in the log. Kept over a reload of the page, it lets the next socket go on from there. */
export interface Position {
  since: number;
  epoch: string;
}

export interface Options {
  /** The access token to begin with; without one, `refresh` is asked first. */
  token?: string;
  /** Gets a new access token: when one is about to expire, or was refused. */
  refresh: () => Promise<string>;
  /** Where an earlier client was. */
  position?: Position | undefined;
}

/** What the helper itself has to tell. */
export interface HelperEvents {
  /** Events were missed and are coming: those after `since`, up to `upto` at least. */
  gap: { since: number; upto: number };
  /** Everything up to `seq` has come. */
  synced: { seq: number };
  /** What was missed cannot be had any more: fetch again what you show. */
  reset: { seq: number; epoch: string };
  /** The server does not let the client in, or no token is to be had. Call `connect` to try again. */
  refused: { message: string };
}

export type Events = LogEvents & SocketEvents & HelperEvents;

type Listener<Name extends keyof Events> = (event: Events[Name]) => void;

/** How many events are remembered by number, so that none is handed on twice. */
const REMEMBERED = 4096;

const REFUSED_TOKEN = /^(Invalid authentication token|Authentication token required)$/;
const BUSY = /try again later$/;

export class Leadwire {
  /** Where the client is; nothing before it first connected. */
  position: Position | undefined;
  readonly leads: ReadonlySet<string>;

  private token: string | undefined;
  private readonly refresh: () => Promise<string>;
  private readonly followed = new Set<string>();
  private readonly listeners = new Map<string, Set<(event: never) => void>>();
  private seen = new Set<number>();
  /** What was missed is being replayed: until all of it is here, the position stays where it was. */
  private catchingUp = false;
  /** The newest seq that has come. */
  private newest = 0;
  /** A token was refused that has just been renewed. */
  private renewed = false;
  private wanted = false;
  private renewing: Promise<void> | undefined;
  /** The server has let us in, and the connection stands. */
  private isIn = false;
  /** Those who called `connect`. */
  private readonly callers: ((refusal?: string) => void)[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** Wraps a socket; make it with `autoConnect: false`. */
  constructor(readonly socket: Socket, options: Options) {
    this.leads = this.followed;
    this.token = options.token;
    this.refresh = options.refresh;
    this.position = options.position;
    socket.auth = (tell: (auth: object) => void) => tell({ token: this.token, ...this.position });
    socket.onAny((name: string, event) => this.take(name, event));
    socket.on('disconnect', (reason) => {
      this.isIn = false;
      this.wanted &&= reason !== 'io client disconnect';
    });
    socket.on('connect_error', ({ message }) => this.refusedToConnect(message));
  }

  /** Listens to one kind of event; answers with how to stop. */
  on<Name extends keyof Events>(name: Name, listener: Listener<Name>): () => void {
    const listeners = this.listeners.get(name) ?? new Set();
    this.listeners.set(name, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  /**
   * Resolves once the server has said `connected`: what you fetch from then on misses nothing.
   *
   * Rejects when it is refused, which is told by `refused` as well, or when `disconnect` is called meanwhile. Until the server can be
   * reached it waits.
   */
  connect(): Promise<void> {
    this.wanted = true;
    this.renewed = false;
    if (this.isIn) return Promise.resolve();
    const entered = new Promise<void>((fulfil, reject) => {
      this.callers.push((refusal) => (refusal === undefined ? fulfil() : reject(new Error(refusal))));
    });
    // Who does not wait for it is told by `refused`.
    entered.catch(() => {});
    if (this.token === undefined) void this.renew();
    else this.socket.connect();
    return entered;
  }

  /** Leaves for good. */
  disconnect(): void {
    this.wanted = false;
    clearTimeout(this.timer);
    this.followed.clear();
    this.socket.disconnect();
    this.answer('disconnected');
  }

  /** Follows a lead from now on, over every reconnect. */
  follow(leadId: string): void {
    this.followed.add(leadId);
    if (this.socket.connected) this.socket.emit('lead:subscribe', { leadId });
  }

  unfollow(leadId: string): void {
    this.followed.delete(leadId);
    if (this.socket.connected) this.socket.emit('lead:unsubscribe', { leadId });
  }

  private take(name: string, event: any): void {
    if (name === 'connected') this.greeted(event);
    else if (name === 'sync:reset') this.reset(event);
    else if (name === 'auth:expiring') void this.renew();
    else if (event?.epoch && event.seq) {
      if (this.seen.has(event.seq)) return;
      this.remember(event.seq);
      this.tell(name, event);
      this.advance(event.seq, event.epoch);
      return;
    }
    this.tell(name, event);
  }

  private remember(seq: number): void {
    this.seen.add(seq);
    if (this.seen.size > REMEMBERED) this.seen.delete(this.seen.values().next().value!);
  }

  private advance(seq: number, epoch: string): void {
    this.newest = Math.max(this.newest, seq);
    if (!this.catchingUp) this.position = { since: this.newest, epoch };
  }

  /**
   * The server has let us in. Leads that it no longer knows we follow, it is told again; until it has answered that, and
   * sent what went by, the position stays where nothing is missing.
   */
  private greeted({ seq, epoch, recovered }: SocketEvents['connected']): void {
    this.renewed = false;
    this.isIn = true;
    this.answer();
    const { position } = this;
    const goesOn = recovered && position;
    const since = goesOn ? goesOn.since : seq;
    // Where the log does not go on from the position, `sync:reset` follows.
    if (!position) this.position = { since: (this.newest = seq), epoch };
    this.catchingUp = recovered || this.followed.size > 0;
    if (!this.catchingUp) return;
    if (goesOn && seq > since) this.tell('gap', { since, upto: seq });
    for (const leadId of this.followed) this.socket.emit('lead:subscribe', { leadId, since });
    this.socket.emit('sync:since', { seq: since, epoch }, (answer: { ok: boolean; recovered?: boolean; seq: number }) => {
      // A connection that was lost meanwhile leaves the position where it was.
      if (!answer.ok) return;
      this.catchingUp = false;
      if (!answer.recovered) return;
      this.advance(answer.seq, epoch);
      if (goesOn) this.tell('synced', { seq: answer.seq });
    });
  }

  private reset({ seq, epoch }: HelperEvents['reset']): void {
    if (this.position?.epoch !== epoch) this.seen.clear();
    this.position = { since: (this.newest = seq), epoch };
    this.tell('reset', { seq, epoch });
  }

  private refusedToConnect(message: string): void {
    // A lost connection is looked after by the socket itself.
    if (this.socket.active || !this.wanted) return;
    if (BUSY.test(message)) {
      this.timer = setTimeout(() => this.socket.connect(), 1000 + Math.random() * 4000);
    } else if (REFUSED_TOKEN.test(message) && !this.renewed) {
      void this.renew();
    } else {
      this.refuse(message);
    }
  }

  private refuse(message: string): void {
    this.tell('refused', { message });
    this.answer(message);
  }

  private answer(refusal?: string): void {
    for (const caller of this.callers.splice(0)) caller(refusal);
  }

  /** Gets a new token and uses it; who asks meanwhile gets the same one. */
  private renew(): Promise<void> {
    return (this.renewing ??= this.refresh()
      .then((token) => {
        this.token = token;
        if (!this.wanted) return;
        if (this.socket.connected) {
          this.socket.emit('auth:refresh', { token });
        } else if (!this.socket.active) {
          this.renewed = true;
          this.socket.connect();
        }
      })
      .catch((error) => {
        if (this.wanted && !this.socket.connected) this.refuse(String(error?.message ?? error));
      })
      .finally(() => (this.renewing = undefined)));
  }

  private tell(name: string, event: unknown): void {
    for (const listener of [...(this.listeners.get(name) ?? [])]) (listener as (event: unknown) => void)(event);
  }
}

/**
 * Adds resume, subscriptions and token renewal to a stock socket.
 *
 * Remembers the last `seq`, sends it in each handshake, delivers every event once, resubscribes to leads and renews
 * tokens. All of it is also possible with `socket.io-client` alone: see "Coming back" in the server's PROTOCOL.md.
 */
import type { Socket } from 'socket.io-client';
import type { LogEvents, SocketEvents } from './events.js';
import type { ClientToServerEvents, ServerToClientEvents } from './generated/events.js';

/** Stock socket with the types of the events of Leadwire. */
export type LeadwireSocket = Socket<ServerToClientEvents, ClientToServerEvents>;

/** Position of a client in the log. Store it across a page reload to resume from there. */
export interface Position {
  since: number;
  epoch: string;
}

export interface Options {
  /** Initial access token; without one, `refresh` is called first. */
  token?: string;
  /** Returns a new access token; called when one is about to expire or was refused. */
  refresh: () => Promise<string>;
  /** Position of an earlier client. */
  position?: Position | undefined;
}

/** Events of the helper itself. */
export interface HelperEvents {
  /** Missed events are being replayed: those after `since`, at least up to `upto`. */
  gap: { since: number; upto: number };
  /** All events up to `seq` have arrived. */
  synced: { seq: number };
  /** Missed events cannot be replayed: fetch again what you show. */
  reset: { seq: number; epoch: string };
  /** The server refuses the client, or `refresh` returned no token. Call `connect` to try again. */
  refused: { message: string };
}

export type Events = LogEvents & SocketEvents & HelperEvents;

type Listener<Name extends keyof Events> = (event: Events[Name]) => void;

/** Number of remembered seqs, so that no event is delivered twice. */
const REMEMBERED = 4096;

const REFUSED_TOKEN = /^(Invalid authentication token|Authentication token required)$/;
const BUSY = /try again later$/;

export class Leadwire {
  /** Position in the log; undefined before the first connect. */
  position: Position | undefined;
  readonly leads: ReadonlySet<string>;

  /** Access token of the next connect; without one, `refresh` is called. */
  token: string | undefined;
  private readonly refresh: () => Promise<string>;
  private readonly followed = new Set<string>();
  private readonly listeners = new Map<string, Set<(event: never) => void>>();
  private seen = new Set<number>();
  /** A replay is in progress: the position does not change until it is complete. */
  private catchingUp = false;
  /** Highest seq received. */
  private newest = 0;
  /** The token was just renewed; if this one is refused too, the client gives up. */
  private renewed = false;
  private wanted = false;
  private renewing: Promise<void> | undefined;
  /** True while connected and accepted by the server. */
  private isIn = false;
  /** Pending calls of `connect`. */
  private readonly callers: ((refusal?: string) => void)[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** Wraps a socket that was created with `autoConnect: false`. */
  constructor(readonly socket: LeadwireSocket, options: Options) {
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

  /** Adds a listener for one kind of event; returns a function that removes it. */
  on<Name extends keyof Events>(name: Name, listener: Listener<Name>): () => void {
    const listeners = this.listeners.get(name) ?? new Set();
    this.listeners.set(name, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  /**
   * Resolves once the server has sent `connected`: data that you fetch from then on misses no event.
   *
   * Rejects when the client is refused, which also emits `refused`, or when `disconnect` is called in the meantime.
   * Stays pending while the server cannot be reached.
   */
  connect(): Promise<void> {
    this.wanted = true;
    this.renewed = false;
    if (this.isIn) return Promise.resolve();
    const entered = new Promise<void>((fulfil, reject) => {
      this.callers.push((refusal) => (refusal === undefined ? fulfil() : reject(new Error(refusal))));
    });
    // Callers that ignore the promise get `refused`.
    entered.catch(() => {});
    if (this.token === undefined) void this.renew();
    else this.socket.connect();
    return entered;
  }

  /** Disconnects for good and forgets the followed leads. */
  disconnect(): void {
    this.wanted = false;
    clearTimeout(this.timer);
    this.followed.clear();
    this.socket.disconnect();
    this.answer('disconnected');
  }

  /** Subscribes to a lead, and again after every reconnect. */
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
   * Handles `connected`. Subscribes again to all followed leads; until the server has confirmed that and replayed the
   * missed events, the position does not change.
   */
  private greeted({ seq, epoch, recovered }: SocketEvents['connected']): void {
    this.renewed = false;
    this.isIn = true;
    this.answer();
    const { position } = this;
    const goesOn = recovered && position;
    const since = goesOn ? goesOn.since : seq;
    // If the server cannot resume from the position, `sync:reset` follows.
    if (!position) this.position = { since: (this.newest = seq), epoch };
    this.catchingUp = recovered || this.followed.size > 0;
    if (!this.catchingUp) return;
    if (goesOn && seq > since) this.tell('gap', { since, upto: seq });
    for (const leadId of this.followed) this.socket.emit('lead:subscribe', { leadId, since });
    this.socket.emit('sync:since', { seq: since, epoch }, (answer) => {
      // If the connection was lost in the meantime, the position does not change.
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
    // The socket itself reconnects a lost connection.
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

  /** Gets a new token and uses it; concurrent calls share one request. */
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

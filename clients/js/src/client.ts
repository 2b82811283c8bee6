/**
 * Client for front ends: signing in, typed HTTP calls, events and commands.
 *
 * HTTP calls and the socket share one pair of tokens, see `session.ts`; the socket is the one of `realtime.ts`.
 */
import createClient, { type Client } from 'openapi-fetch';
import { io, type ManagerOptions, type SocketOptions } from 'socket.io-client';
import { LeadwireError, unwrap } from './error.js';
import type { ActivityCreate, ClientToServerEvents, LeadCreate, LeadPatch, paths, User } from './events.js';
import { Leadwire, type Events, type LeadwireSocket, type Position } from './realtime.js';
import {
  defaultStorage, isExpiring, Session, signedOut, type SignedOut, type Stored, type TokenStorage,
} from './session.js';
import { watchLead, watchLeads, type LeadView, type LeadsView, type Watched } from './watch.js';

export interface LeadwireOptions {
  /** Address of the server; by default, the origin of the page. */
  url?: string;
  /** Storage of the tokens; by default `localStorage`, or memory where there is none. */
  storage?: TokenStorage;
  /** Further options of the stock socket. */
  socket?: Partial<ManagerOptions & SocketOptions>;
  /** Time until a command without an answer fails; 10 s by default. */
  commandTimeoutMs?: number;
}

/** Events of the signed-in user. */
export interface SessionEvents {
  /** The user who is signed in now, or undefined: after a login, a change of the account, or a sign-out. */
  user: User | undefined;
  /** The session is over: show the login form. */
  signedOut: SignedOut;
}

export type ClientEvents = Events & SessionEvents;

export interface CommandOptions {
  /** The same key with the same command within 24 h is not carried out again. A random one by default. */
  idempotencyKey?: string;
  timeoutMs?: number;
}

export interface ChangeOptions extends CommandOptions {
  /** Refuses the change with `version_conflict` if the lead has another version. */
  version?: number;
}

type CommandName = 'lead:create' | 'lead:update' | 'lead:delete' | 'lead:assign' | 'activity:create';
type Payload<Name extends CommandName> = Parameters<ClientToServerEvents[Name]>[0];
type Answer<Name extends CommandName> = Parameters<NonNullable<Parameters<ClientToServerEvents[Name]>[1]>>[0];
/** Content of the acknowledgement of a command, including `seq`, the last event that the command wrote. */
export type CommandResult<Name extends CommandName> = Omit<Extract<Answer<Name>, { ok: true }>, 'ok'>;

type Ack = (error: Error | null, answer?: Answer<CommandName>) => void;

const COMMAND_TIMEOUT_MS = 10_000;
/** Pauses between attempts to renew the token of the socket while the server cannot be reached. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 20_000;

/** Calls that send no access token. */
const IS_OPEN = /\/api\/auth\/(login|refresh|logout)$/;

export class LeadwireClient {
  /** Typed HTTP calls by openapi-fetch; they return `{ data, error, response }`. `unwrap` throws the error instead. */
  readonly api: Client<paths>;
  readonly socket: LeadwireSocket;

  private readonly realtime: Leadwire;
  private readonly session: Session;
  private readonly commandTimeoutMs: number;
  private readonly listeners = new Map<string, Set<(event: never) => void>>();
  private knownUserId: string | undefined;
  /** `connect` was called, and neither `disconnect` nor a refusal came after it. */
  private wanted = false;
  /** Ends the waiting of commands that have no answer yet. */
  private readonly abandons = new Set<() => void>();
  /** Refresh token of the pair whose access token the socket got last. */
  private socketPair: string | undefined;

  constructor(options: LeadwireOptions = {}) {
    const url = (options.url ?? globalThis.location?.origin ?? '').replace(/\/+$/, '');
    this.commandTimeoutMs = options.commandTimeoutMs ?? COMMAND_TIMEOUT_MS;
    this.session = new Session(url, options.storage ?? defaultStorage(), (user, end) => this.userChanged(user, end));
    this.knownUserId = this.user?.id;
    this.api = createClient<paths>({ baseUrl: url, fetch: (request) => this.fetch(request) });
    this.socket = io(url, { ...options.socket, autoConnect: false });
    this.realtime = new Leadwire(this.socket, { refresh: () => this.renewSocketToken() });
    this.realtime.on('session:updated', () => void this.readUser());
    this.realtime.on('refused', () => (this.wanted = false));
  }

  /** The user who is signed in, also after a reload of the page. */
  get user(): User | undefined {
    return this.session.user;
  }

  /** Signs in. Rejects with `invalid_credentials` or `rate_limited`, among others. */
  login(email: string, password: string): Promise<User> {
    return this.session.login(email, password);
  }

  /** Signs out on this device at once. Rejects if the server could not be told to end the session. */
  logout(): Promise<void> {
    return this.session.logout();
  }

  /**
   * Resolves once events arrive: data that you fetch from then on misses none.
   *
   * Stays pending while the server cannot be reached. Rejects with `unauthenticated` if nobody is signed in, with
   * `refused`, or with `disconnected`.
   */
  async connect(): Promise<void> {
    const stored = this.session.read();
    if (!stored) throw signedOut();
    this.wanted = true;
    if (!this.socket.connected) this.giveToSocket(isExpiring(stored) ? undefined : stored);
    try {
      await this.realtime.connect();
    } catch (error) {
      if (!this.user) throw signedOut();
      const message = (error as Error).message;
      throw new LeadwireError(message, { code: message === 'disconnected' ? 'disconnected' : 'refused', cause: error });
    }
  }

  /** Disconnects for good and forgets the followed leads. */
  disconnect(): void {
    this.wanted = false;
    this.realtime.disconnect();
    // Commands that wait for a connection must not be sent as the next user.
    this.socket.sendBuffer = [];
    for (const abandon of [...this.abandons]) abandon();
  }

  /** Adds a listener for one kind of event; returns a function that removes it. */
  on<Name extends keyof ClientEvents>(name: Name, listener: (event: ClientEvents[Name]) => void): () => void {
    if (name !== 'user' && name !== 'signedOut') return this.realtime.on(name as keyof Events, listener as never);
    const listeners = this.listeners.get(name) ?? new Set();
    this.listeners.set(name, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  /** Subscribes to the activities and the viewers of a lead, and again after every reconnect. */
  follow(leadId: string): void {
    this.realtime.follow(leadId);
  }

  unfollow(leadId: string): void {
    this.realtime.unfollow(leadId);
  }

  /** Followed leads. */
  get leads(): ReadonlySet<string> {
    return this.realtime.leads;
  }

  /** Position in the log; undefined before the first connect. */
  get position(): Position | undefined {
    return this.realtime.position;
  }

  /** All leads that the user may see, newest first, kept right by events while somebody listens. */
  watchLeads(): Watched<LeadsView> {
    return watchLeads(this);
  }

  /** One lead with its latest activities and its viewers, kept right by events while somebody listens. */
  watchLead(leadId: string): Watched<LeadView> {
    return watchLead(this, leadId);
  }

  createLead(lead: LeadCreate, options: CommandOptions = {}): Promise<CommandResult<'lead:create'>> {
    return this.command('lead:create', lead, options);
  }

  updateLead(leadId: string, patch: LeadPatch, options: ChangeOptions = {}): Promise<CommandResult<'lead:update'>> {
    return this.command('lead:update', { leadId, patch, ...versionOf(options) }, options);
  }

  deleteLead(leadId: string, options: ChangeOptions = {}): Promise<CommandResult<'lead:delete'>> {
    return this.command('lead:delete', { leadId, ...versionOf(options) }, options);
  }

  /** Gives a lead to another user, or to nobody with null. */
  assignLead(
    leadId: string,
    ownerId: string | null,
    options: ChangeOptions = {},
  ): Promise<CommandResult<'lead:assign'>> {
    return this.command('lead:assign', { leadId, ownerId, ...versionOf(options) }, options);
  }

  createActivity(
    leadId: string,
    activity: ActivityCreate,
    options: CommandOptions = {},
  ): Promise<CommandResult<'activity:create'>> {
    return this.command('activity:create', { leadId, ...activity }, options);
  }

  /** Sends a command. If the connection is lost before the answer, sends it again: its key makes that safe. */
  private async command<Name extends CommandName>(
    name: Name,
    payload: Payload<Name>,
    { timeoutMs = this.commandTimeoutMs, idempotencyKey = randomKey() }: CommandOptions,
  ): Promise<CommandResult<Name>> {
    const deadline = Date.now() + timeoutMs;
    const keyed = { ...payload, idempotencyKey };
    while (this.wanted) {
      const remainingMs = deadline - Date.now();
      if (remainingMs <= 0) {
        throw new LeadwireError(`no answer to ${name} within ${timeoutMs} ms; it may have been carried out`, {
          code: 'timeout',
        });
      }
      const answer = await this.emit(name, keyed, remainingMs);
      if (answer === undefined) continue;
      if (!answer.ok) throw LeadwireError.ofRefusal(answer.error);
      const { ok, ...content } = answer;
      return content as unknown as CommandResult<Name>;
    }
    throw new LeadwireError(`${name} needs a connection: call connect() first`, { code: 'disconnected' });
  }

  /** The answer, or undefined if the time is over or the connection was lost. */
  private emit(name: CommandName, payload: object, timeoutMs: number): Promise<Answer<CommandName> | undefined> {
    return new Promise((fulfil) => {
      const settle = (answer?: Answer<CommandName>) => {
        this.abandons.delete(settle);
        fulfil(answer);
      };
      this.abandons.add(settle);
      const ack: Ack = (error, answer) => settle(error ? undefined : answer);
      // Without a connection, the socket keeps the command until the next one.
      (this.socket.timeout(timeoutMs).emit as (name: string, payload: object, ack: Ack) => void)(name, payload, ack);
    });
  }

  /** Sends the access token, and once more with a new one if it is refused. */
  private async fetch(request: Request): Promise<Response> {
    const isOpen = IS_OPEN.test(new URL(request.url).pathname) || request.headers.has('authorization');
    const tokens = isOpen ? undefined : await this.session.valid();
    if (tokens === undefined) return fetch(request);
    const again = request.clone();
    request.headers.set('authorization', `Bearer ${tokens.accessToken}`);
    const response = await fetch(request);
    if (response.status !== 401 || !(await isUnauthenticated(response))) return response;
    try {
      const { accessToken } = await this.session.renew(tokens.refreshToken);
      again.headers.set('authorization', `Bearer ${accessToken}`);
    } catch (error) {
      if (!this.user) return response;
      throw error;
    }
    return fetch(again);
  }

  /** New token for the socket. While the server cannot be reached, tries again: a rejection would end the attempts. */
  private async renewSocketToken(): Promise<string> {
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      try {
        const tokens = await this.session.renew(this.socketPair);
        this.socketPair = tokens.refreshToken;
        return tokens.accessToken;
      } catch (error) {
        if (!this.wanted || !this.user) throw error;
        const { retryAfterMs = 0 } = error as LeadwireError;
        await sleep(Math.max(pauseMs * (0.5 + Math.random()), retryAfterMs));
      }
    }
  }

  private giveToSocket(tokens: Stored | undefined): void {
    this.socketPair = tokens?.refreshToken;
    this.realtime.token = tokens?.accessToken;
  }

  private async readUser(): Promise<void> {
    try {
      await this.session.setUser(await unwrap(this.api.GET('/api/auth/me')));
    } catch {
      // A lost connection is followed by a reset, and an ended session by `signedOut`.
    }
  }

  private userChanged(user: User | undefined, end: SignedOut | undefined): void {
    if (user?.id !== this.knownUserId) {
      this.knownUserId = user?.id;
      // The position belongs to the lists of the user before.
      this.disconnect();
      this.realtime.position = undefined;
      this.giveToSocket(undefined);
    }
    this.tell('user', user);
    if (!user && end) this.tell('signedOut', end);
  }

  private tell<Name extends keyof SessionEvents>(name: Name, event: SessionEvents[Name]): void {
    for (const listener of [...(this.listeners.get(name) ?? [])]) (listener as (event: unknown) => void)(event);
  }
}

/** Client for the server at `url`. Signs in by itself if the storage has the tokens of an earlier page. */
export function createLeadwire(options: LeadwireOptions = {}): LeadwireClient {
  return new LeadwireClient(options);
}

function versionOf({ version }: ChangeOptions): { version?: number } {
  return version === undefined ? {} : { version };
}

async function isUnauthenticated(response: Response): Promise<boolean> {
  try {
    return ((await response.clone().json()) as { code?: string }).code === 'unauthenticated';
  } catch {
    return false;
  }
}

/** `crypto.randomUUID` exists only on pages that were loaded over HTTPS or from localhost. */
function randomKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function sleep(ms: number): Promise<void> {
  return new Promise((fulfil) => setTimeout(fulfil, ms));
}

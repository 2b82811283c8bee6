/**
 * Tokens of the signed-in user: stored, shared with other tabs, and renewed one at a time.
 *
 * The storage is read again each time: another tab may have renewed the tokens or signed out.
 */
import { LeadwireError } from './error.js';
import type { Schemas, User } from './events.js';

/** Part of `Storage` that the client needs: `localStorage`, `sessionStorage` or your own. */
export interface TokenStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** End of the session on this client. */
export interface SignedOut {
  /** `logout` was called here, the server ended the session, or another tab signed out. */
  reason: 'logout' | 'ended' | 'elsewhere';
  /** Answer of the server to the last refresh, for `ended`. */
  error?: LeadwireError;
}

/** Tokens and the account, as they are stored. */
export interface Stored {
  accessToken: string;
  refreshToken: string;
  /** By the clock of this device. */
  expiresAt: number;
  lifetimeMs: number;
  user: User;
}

/** A token is renewed this long before it expires, or after two thirds of its life if that is later. */
const MARGIN_MS = 30_000;
/** A request that hangs would stop the other tabs too. */
const REQUEST_TIMEOUT_MS = 15_000;

/** The lock is kept this long after a write: `localStorage` shows it to the processes of other tabs only then. */
const PROPAGATION_MS = 100;

export class Session {
  private readonly key: string;
  private known: User | undefined;
  private renewing: { used: string | undefined; tokens: Promise<Stored> } | undefined;

  constructor(
    private readonly url: string,
    private readonly storage: TokenStorage,
    private readonly changed: (user: User | undefined, end?: SignedOut) => void,
  ) {
    this.key = `leadwire:${url}`;
    this.known = this.read()?.user;
    // Sent to the other tabs only.
    globalThis.addEventListener?.('storage', (event: StorageEvent) => {
      const isOurs = event.storageArea === storage && (event.key === this.key || event.key === null);
      if (isOurs) this.notice(this.read()?.user, { reason: 'elsewhere' });
    });
  }

  get user(): User | undefined {
    return this.read()?.user;
  }

  /** Replaces the account data, for example after a change of the role. */
  setUser(user: User): Promise<void> {
    return alone(this.storage, this.key, () => {
      const stored = this.read();
      if (stored?.user.id !== user.id) return;
      this.write({ ...stored, user });
      this.notice(user);
    });
  }

  async login(email: string, password: string): Promise<User> {
    const tokens = await this.post('login', { email, password });
    // Not in the middle of a renewal of the session before.
    return alone(this.storage, this.key, () => this.keep(tokens).user);
  }

  /** Forgets the tokens, then ends the session on the server. Rejects if the server does not confirm that. */
  async logout(): Promise<void> {
    const refreshToken = await alone(this.storage, this.key, () => {
      const stored = this.read();
      this.end({ reason: 'logout' });
      return stored?.refreshToken;
    });
    if (refreshToken !== undefined) await this.post('logout', { refreshToken });
  }

  /** Tokens that are valid for a while; undefined if nobody is signed in. */
  async valid(): Promise<Stored | undefined> {
    const stored = this.read();
    if (!stored || !isExpiring(stored)) return stored;
    try {
      return await this.renew(stored.refreshToken);
    } catch (error) {
      if (!this.read()) return undefined;
      if (stored.expiresAt > Date.now()) return stored;
      throw error;
    }
  }

  /**
   * Tokens after those with the refresh token `used`; those that another tab has stored meanwhile are enough.
   *
   * Access tokens would not do: two of the same second are equal.
   */
  renew(used: string | undefined): Promise<Stored> {
    if (this.renewing && this.renewing.used === used) return this.renewing.tokens;
    const tokens = alone(this.storage, this.key, () => this.renewAlone(used)).finally(() => {
      if (this.renewing?.tokens === tokens) this.renewing = undefined;
    });
    this.renewing = { used, tokens };
    return tokens;
  }

  private async renewAlone(used: string | undefined): Promise<Stored> {
    const stored = this.read();
    if (!stored) {
      this.notice(undefined, { reason: 'elsewhere' });
      throw signedOut();
    }
    if (stored.refreshToken !== used && !isExpiring(stored)) return stored;
    try {
      return this.keep(await this.post('refresh', { refreshToken: stored.refreshToken }));
    } catch (error) {
      const isRefused = error instanceof LeadwireError && error.status === 401;
      // A login meanwhile has stored another session.
      const isCurrent = this.read()?.refreshToken === stored.refreshToken;
      if (isRefused && isCurrent) this.end({ reason: 'ended', error });
      throw error;
    }
  }

  private async post(name: 'login' | 'refresh', body: object): Promise<Schemas['Tokens']>;
  private async post(name: 'logout', body: object): Promise<void>;
  private async post(name: string, body: object): Promise<unknown> {
    let response: Response;
    let text: string;
    try {
      response = await fetch(`${this.url}/api/auth/${name}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      });
      text = await response.text();
    } catch (error) {
      throw LeadwireError.ofFailure(error);
    }
    const answer = parse<Schemas['Tokens']>(text);
    if (!response.ok) throw LeadwireError.ofResponse(response, answer);
    return answer;
  }

  private keep({ accessToken, refreshToken, expiresIn, user }: Schemas['Tokens']): Stored {
    const lifetimeMs = expiresIn * 1000;
    const stored = { accessToken, refreshToken, expiresAt: Date.now() + lifetimeMs, lifetimeMs, user };
    this.write(stored);
    this.notice(user);
    return stored;
  }

  private end(end: SignedOut): void {
    this.storage.removeItem(this.key);
    this.notice(undefined, end);
  }

  private notice(user: User | undefined, end?: SignedOut): void {
    const before = this.known;
    this.known = user;
    if (JSON.stringify(user) !== JSON.stringify(before)) this.changed(user, user ? undefined : end);
  }

  read(): Stored | undefined {
    return parse<Stored>(this.storage.getItem(this.key));
  }

  private write(stored: Stored): void {
    this.storage.setItem(this.key, JSON.stringify(stored));
  }
}

export function isExpiring({ expiresAt, lifetimeMs }: Pick<Stored, 'expiresAt' | 'lifetimeMs'>): boolean {
  return expiresAt - Date.now() < Math.min(MARGIN_MS, lifetimeMs / 3);
}

export function signedOut(): LeadwireError {
  return new LeadwireError('nobody is signed in', { code: 'unauthenticated' });
}

/** `localStorage` of a page, which all tabs share; otherwise the memory of this process. */
export function defaultStorage(): TokenStorage {
  try {
    // Reading it throws if the user blocks storage.
    if (typeof window !== 'undefined' && window.localStorage) return window.localStorage;
  } catch {}
  const items = new Map<string, string>();
  return {
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => void items.set(key, value),
    removeItem: (key) => void items.delete(key),
  };
}

const queues = new WeakMap<TokenStorage, Promise<unknown>>();

/**
 * Runs one function at a time over all clients of a storage.
 *
 * Pages that were not loaded over HTTPS or from localhost have no Web Locks: their tabs may renew at the same time. The
 * server returns the same successor to both.
 */
async function alone<Value>(storage: TokenStorage, name: string, run: () => Value | Promise<Value>): Promise<Value> {
  const locks = (globalThis.navigator as Partial<Navigator> | undefined)?.locks;
  if (locks) {
    return new Promise((fulfil, reject) => {
      const keepLock = async () => {
        await Promise.resolve().then(run).then(fulfil, reject);
        // Browsers may stretch timers of a hidden tab to a minute. Without the pause, another tab may repeat the
        // refresh, and gets the same successor.
        if (globalThis.document?.visibilityState === 'visible') {
          await new Promise((end) => setTimeout(end, PROPAGATION_MS));
        }
      };
      locks.request(name, keepLock).catch(reject);
    });
  }
  const turn = (queues.get(storage) ?? Promise.resolve()).then(run);
  queues.set(storage, turn.catch(() => {}));
  return turn;
}

function parse<Value>(text: string | null): Value | undefined {
  try {
    return text ? (JSON.parse(text) as Value) : undefined;
  } catch {
    return undefined;
  }
}

import type { FieldError, Lead, Messages, Problem } from './events.js';

/** Codes that the client itself uses; all others are those of the server. */
export type ClientCode =
  /** The server could not be reached, or its answer is not one of Leadwire. */
  | 'network'
  /** No answer in time. A command may have been carried out: send it again with the same `idempotencyKey`. */
  | 'timeout'
  /** The socket is not connected, or `disconnect` was called meanwhile. */
  | 'disconnected'
  /** The server does not let this user connect. */
  | 'refused';

interface Details {
  status?: number | undefined;
  code: string;
  errors?: FieldError[] | undefined;
  current?: Lead | undefined;
  limit?: string | undefined;
  requestId?: string | undefined;
  retryAfterMs?: number | undefined;
  cause?: unknown;
}

/** Refusal of the server, or a failure to reach it. Base your logic on `code`; `message` is for people. */
export class LeadwireError extends Error {
  override readonly name = 'LeadwireError';
  /** Status of the HTTP response; undefined for commands, and if there was no response. */
  readonly status: number | undefined;
  readonly code: ClientCode | (string & {});
  /** Invalid fields, with the code `invalid`. */
  readonly errors: readonly FieldError[];
  /** The lead as it is now, with the code `version_conflict`. */
  readonly current: Lead | undefined;
  /** Limit that was exceeded, with the code `rate_limited`. */
  readonly limit: string | undefined;
  /** `X-Request-Id`, to find the request in the log of the server. */
  readonly requestId: string | undefined;
  /** Time to wait before the next attempt, if the server named one. */
  readonly retryAfterMs: number | undefined;
  /** Error that caused this one, such as the `TypeError` of `fetch`. */
  readonly cause: unknown;

  constructor(message: string, details: Details) {
    super(message);
    this.status = details.status;
    this.code = details.code;
    this.errors = details.errors ?? [];
    this.current = details.current;
    this.limit = details.limit;
    this.requestId = details.requestId;
    this.retryAfterMs = details.retryAfterMs;
    this.cause = details.cause;
  }

  /** Error of an HTTP response whose body has been read. */
  static ofResponse(response: Response, body: unknown): LeadwireError {
    const problem: Partial<Problem> = typeof body === 'object' && body !== null ? body : {};
    const seconds = Number(response.headers.get('retry-after') ?? NaN);
    return new LeadwireError(problem.detail ?? `the server answered ${response.status}`, {
      ...problem,
      status: response.status,
      // Something between here and the server, such as a proxy, answered without a problem document.
      code: problem.code ?? 'network',
      requestId: problem.requestId ?? response.headers.get('x-request-id') ?? undefined,
      retryAfterMs: Number.isNaN(seconds) ? undefined : seconds * 1000,
    });
  }

  /** Error of the acknowledgement of a command. */
  static ofRefusal(error: Messages['refused']['error']): LeadwireError {
    return new LeadwireError(error.message, error);
  }

  /** Error for a request that got no response. */
  static ofFailure(error: unknown): LeadwireError {
    if (error instanceof LeadwireError) return error;
    const isLate = (error as Error | undefined)?.name === 'TimeoutError';
    const message = isLate ? 'the server did not answer in time' : 'the server cannot be reached';
    return new LeadwireError(message, { code: isLate ? 'timeout' : 'network', cause: error });
  }
}

/** Data of a successful call of `api`; undefined for those without content. */
type Data<Result> = Result extends { data: infer Content; error?: never }
  ? [Content] extends [never]
    ? undefined
    : Content
  : never;

/**
 * Returns the data of a call of `api`, or throws `LeadwireError`:
 * `const page = await unwrap(leadwire.api.GET('/api/leads'))`.
 */
export async function unwrap<Result extends { error?: unknown; data?: unknown; response: Response }>(
  call: Promise<Result>,
): Promise<Data<Result>> {
  const result = await call.catch((error: unknown) => {
    throw LeadwireError.ofFailure(error);
  });
  if (!result.response.ok) throw LeadwireError.ofResponse(result.response, result.error);
  return result.data as Data<Result>;
}

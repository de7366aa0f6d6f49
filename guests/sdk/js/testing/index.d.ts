// Types of `cloakroom/testing`, the client of `cloakroom test`.

/** The part of a `node:test` context that `startHost` uses. */
export interface TestContext {
  after(end: () => unknown): void;
}

/**
 * Starts a host with the project's guests and routes, and with its own store and clock. Given the context of a `node:test` test,
 * the host ends with the test.
 *
 * @throws outside of `cloakroom test`.
 */
export function startHost(context?: TestContext): Promise<Host>;

/** A running host. */
export class Host {
  /** The URL of the host, without a path: `http://127.0.0.1:41234`. */
  readonly url: string;
  /** The host's clock, which stands still until it is advanced. It affects the lifetimes of sessions, and no timers. */
  readonly clock: {
    advance(milliseconds: number): Promise<Date>;
    now(): Promise<Date>;
  };
  /** The session store, which can be made unreachable. */
  readonly store: {
    down(): Promise<void>;
    up(): Promise<void>;
  };
  /** Returns a visitor without a cookie. */
  visitor(): Visitor;
  /** Stores a session and returns its visitor. */
  visitor(data: Record<string, unknown>): Promise<Visitor>;
  /** Adds a rival request of the same session, which commits right before the next commit of a stored session. First in, first used. */
  rival(change: { set?: Record<string, unknown>; delete?: string[] } | { destroy: true }): Promise<void>;
  /** Swaps in a new version of a guest: the component or, without one, the configured file. Rejects with the reason if it is refused. */
  swap(version?: { component?: string; guest?: string }): Promise<{ version: number }>;
  /** Returns the stored sessions. */
  sessions(): Promise<{ data: Record<string, unknown>; expires: Date }[]>;
  /** Returns the host's counters since its start. */
  counts(): Promise<{ requests: number; runs: number; commits: number; conflicts: number; reapplies: number; reruns: number }>;
  /** Ends the host. */
  close(): Promise<void>;
}

/** The options of a request: at most one of `body`, `json` and `form`. */
export interface RequestOptions {
  headers?: Record<string, string>;
  body?: string | Uint8Array;
  json?: unknown;
  form?: Record<string, string>;
  /** Follows up to ten redirects within this host: after 307 and 308 with the same method and body, otherwise with GET. */
  follow?: boolean;
}

/** A complete answer. */
export interface Answer {
  status: number;
  headers: Headers;
  text: string;
  json(): any;
}

/** A browser: stores cookies, drops expired ones, and follows redirects only on request. */
export class Visitor {
  get(path: string, options?: RequestOptions): Promise<Answer>;
  head(path: string, options?: RequestOptions): Promise<Answer>;
  post(path: string, options?: RequestOptions): Promise<Answer>;
  put(path: string, options?: RequestOptions): Promise<Answer>;
  patch(path: string, options?: RequestOptions): Promise<Answer>;
  delete(path: string, options?: RequestOptions): Promise<Answer>;
  send(method: string, path: string, options?: RequestOptions): Promise<Answer>;
  /** The cookies that the visitor would send, with their values as on the wire. */
  readonly cookies: Record<string, string>;
}

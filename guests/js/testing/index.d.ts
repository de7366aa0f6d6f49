// Types of `cloakroom/testing`, the client of `cloakroom test`.

/** The part of a `node:test` context that is used. */
export interface TestContext {
  after(end: () => unknown): void;
}

/**
 * Starts a host of the project's guests and routes with a store and a clock of its own. Given the context of a `node:test` test it
 * ends with the test.
 *
 * @throws outside of `cloakroom test`.
 */
export function startHost(context?: TestContext): Promise<Host>;

/** A running host. */
export class Host {
  /** Where it serves, without a path: `http://127.0.0.1:41234`. */
  readonly url: string;
  /** Its clock, which stands still until it is advanced. It moves the lifetimes of sessions, no timers. */
  readonly clock: {
    advance(milliseconds: number): Promise<Date>;
    now(): Promise<Date>;
  };
  /** Its session store, which can be out of reach for a while. */
  readonly store: {
    down(): Promise<void>;
    up(): Promise<void>;
  };
  /** A visitor without a cookie. */
  visitor(): Visitor;
  /** A visitor whose session is stored already. */
  visitor(data: Record<string, unknown>): Promise<Visitor>;
  /** A rival request of the same session, which commits right before the next commit of a stored session; first in, first used. */
  rival(change: { set?: Record<string, unknown>; delete?: string[] } | { destroy: true }): Promise<void>;
  /** Brings in a new version of a guest; without a component, its configured file. Rejects with the reason if it is refused. */
  swap(version?: { component?: string; guest?: string }): Promise<{ version: number }>;
  /** What is stored. */
  sessions(): Promise<{ data: Record<string, unknown>; expires: Date }[]>;
  /** What happened so far. */
  counts(): Promise<{ requests: number; runs: number; commits: number; conflicts: number; reapplies: number; reruns: number }>;
  /** Ends it. */
  close(): Promise<void>;
}

/** What a request is sent with: one of `body`, `json` and `form`, or none. */
export interface RequestOptions {
  headers?: Record<string, string>;
  body?: string | Uint8Array;
  json?: unknown;
  form?: Record<string, string>;
  /** Goes where a redirect of this host points, up to ten times: with 307 and 308 by the same method and body, else by GET. */
  follow?: boolean;
}

/** A whole answer. */
export interface Answer {
  status: number;
  headers: Headers;
  text: string;
  json(): any;
}

/** One browser: keeps cookies, drops expired ones, follows no redirect unless asked to. */
export class Visitor {
  get(path: string, options?: RequestOptions): Promise<Answer>;
  head(path: string, options?: RequestOptions): Promise<Answer>;
  post(path: string, options?: RequestOptions): Promise<Answer>;
  put(path: string, options?: RequestOptions): Promise<Answer>;
  patch(path: string, options?: RequestOptions): Promise<Answer>;
  delete(path: string, options?: RequestOptions): Promise<Answer>;
  send(method: string, path: string, options?: RequestOptions): Promise<Answer>;
  /** What it would send, as on the wire. */
  readonly cookies: Record<string, string>;
}

// Types of `cloakroom`: the part of Express that a guest has, the session, and fetch-style handlers.

// ---- the session ------------------------------------------------------------------------------------------------------

/**
 * The entries of your sessions. Declare them once:
 *
 * ```ts
 * declare module 'cloakroom' { interface SessionData { cart: Cart } }
 * ```
 */
export interface SessionData {}

/** A callback that receives an error, or no argument if the work has succeeded. */
export type SessionCallback = (error?: SessionError) => void;

/** express-session's methods on `req.session`. Without a callback, an error is thrown. */
export interface SessionMethods {
  /** A stable name for this session that is worthless as a credential; `undefined` before the session has an id. */
  readonly id: string | undefined;
  readonly cookie: SessionCookie;
  /** Gives the session a new id and drops its data. Later changes belong to the new `req.session`; the old object throws. */
  regenerate(): Promise<void>;
  regenerate(callback: SessionCallback): this;
  /** Deletes the session and makes the browser delete its cookie. Call it at logout. */
  destroy(): Promise<void>;
  destroy(callback: SessionCallback): this;
  /** Commits now. It is seldom needed, because no response is sent before its session is stored. A later conflict is answered with 409. */
  save(): Promise<void>;
  save(callback: SessionCallback): this;
  /** Drops the changes that are not committed and reads the session again. */
  reload(): Promise<void>;
  reload(callback: SessionCallback): this;
  /** Starts the session's lifetime again. The host does this on each use. */
  touch(): this;
  resetMaxAge(): this;
}

/** `req.session`: one property for each entry. Reading a property reads the entry from the host. A change at any depth is stored. */
export type LiveSession = SessionMethods & Partial<SessionData>;

/** The attributes of the session's cookie. A guest can set its lifetime. The host's configuration sets the rest. */
export interface SessionCookie {
  /** Milliseconds until the cookie expires; `null` if it lasts until the browser is closed. */
  get maxAge(): number | null;
  set maxAge(milliseconds: number | bigint | null);
  /** The lifetime that each use of the session starts again, in milliseconds. */
  get originalMaxAge(): number | null;
  set originalMaxAge(milliseconds: number | bigint | null);
  get expires(): Date | null;
  set expires(at: Date | number | string | null);
  readonly path: string;
  readonly domain: string | undefined;
  readonly httpOnly: boolean;
  readonly secure: boolean;
  readonly sameSite: string | undefined;
  readonly partitioned: boolean;
  readonly priority: string | undefined;
}

/** The object that `getSession` returns: the session with every function that the host offers. Each method can throw a `SessionError`. */
export interface Session {
  get<K extends keyof SessionData>(key: K): SessionData[K] | undefined;
  get(key: string): unknown;
  set<K extends keyof SessionData>(key: K, value: SessionData[K]): void;
  set(key: string, value: unknown): void;
  has(key: string): boolean;
  delete(key: string): void;
  keys(): string[];
  /** Adds `delta` (default 1); a missing entry counts as 0. It does not return the sum, so it never causes another run. */
  add(key: string, delta?: number | bigint): void;
  /** Adds `delta` (default 1) and returns the sum. No other request of this session receives the same sum. */
  increment(key: string, delta?: number | bigint): number;
  /** Removes all entries. The id and the cookie remain. */
  clear(): void;
  /** Gives the session a new id and keeps its entries. Call it when privileges change. */
  renew(): void;
  regenerate(): void;
  destroy(): void;
  save(): void;
  reload(): void;
  touch(): void;
  /** Does the same as `req.session = null`. */
  unset(): void;
  /** Writes the values that were changed in place now, so that a refusal is thrown here. */
  flush(): void;
  readonly fingerprint: string | undefined;
  readonly cookie: SessionCookie;
}

/** Returns the session of a request: Express's `req`, the `Request` of a fetch-style handler, or a Hono context. */
export function getSession(request: object): Session;

/** Error thrown when a call on the session is refused. A refused call has changed nothing. */
export class SessionError extends Error {
  constructor(code: SessionError['code'], message: string, options?: { cause?: unknown });
  /**
   * `denied`: the guest's grant does not allow the call. `invalid`: the call is invalid in every session. `too-large`: the session would
   * exceed its size limit. `committed`: the response has been sent. `unavailable`: the store did not answer (`save`, `reload`).
   */
  readonly code: 'denied' | 'invalid' | 'too-large' | 'committed' | 'unavailable';
  /** Status of Express's response unless an error handler sends another one: 413 for `too-large`, 503 for `unavailable`, else 500. */
  readonly status: 413 | 500 | 503;
}

// ---- cookies ----------------------------------------------------------------------------------------------------------

/** Attributes and signature of a cookie to send. */
export interface CookieOptions {
  /** Lifetime in milliseconds. It has precedence over `expires`. */
  maxAge?: number;
  expires?: Date;
  domain?: string;
  /** Default: `/`. */
  path?: string;
  httpOnly?: boolean;
  secure?: boolean;
  partitioned?: boolean;
  priority?: 'low' | 'medium' | 'high';
  sameSite?: boolean | 'lax' | 'strict' | 'none';
  /** Makes the host sign the cookie, so that no other program can forge it. */
  signed?: boolean;
}

/** Error thrown when a cookie is refused: it is the session's cookie, or it has a name, value or attribute that no cookie can have. */
export class CookieError extends Error {
  constructor(code: CookieError['code'], message: string, options?: { cause?: unknown });
  readonly code: 'denied' | 'invalid';
}

// ---- Express ----------------------------------------------------------------------------------------------------------

/** The values of `app.locals` and `res.locals`. */
export interface Locals extends Record<string, any> {}

/** A request of Express. To declare more properties, use `declare module 'cloakroom' { interface Request { ... } }`. */
export interface Request {
  readonly app: Application;
  readonly method: string;
  url: string;
  readonly originalUrl: string;
  readonly baseUrl: string;
  readonly path: string;
  params: Record<string, string>;
  /** Parsed by the setting `query parser`: `simple` by default, as in Express 5. */
  readonly query: Record<string, any>;
  /** The body as a body parser has parsed it; `undefined` without a body parser. */
  body: any;
  readonly headers: Record<string, string | undefined> & { 'set-cookie'?: string[] };
  readonly rawHeaders: string[];
  get(name: 'set-cookie'): string[] | undefined;
  get(name: string): string | undefined;
  header(name: string): string | undefined;
  accepts(...types: string[]): string | false;
  acceptsCharsets(...charsets: string[]): string | false;
  acceptsEncodings(...encodings: string[]): string | false;
  acceptsLanguages(...languages: string[]): string | false;
  is(...types: string[]): string | false | null;
  readonly protocol: string;
  readonly secure: boolean;
  readonly host: string;
  readonly hostname: string;
  readonly subdomains: string[];
  readonly xhr: boolean;
  /** Always `undefined`: the host does not give a guest the visitor's address. */
  readonly ip: string | undefined;
  readonly ips: string[];
  /** `undefined` after `destroy`. Setting it to `null` does what the host's option `unset` defines. */
  get session(): LiveSession;
  set session(nothing: null);
  /** A name for the session that is worthless as a credential: see `SessionMethods.id`. */
  readonly sessionID: string | undefined;
  /** Cookies that do not claim to be signed. */
  readonly cookies: Record<string, any>;
  /** Cookies that claim to be signed. The value is `false` if the host has not signed the cookie. */
  readonly signedCookies: Record<string, any>;
  readonly res: Response;
  route: unknown;
  on(event: string, listener: (...values: any[]) => void): this;
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array>;
}

/** A response of Express. */
export interface Response {
  readonly app: Application;
  readonly req: Request;
  locals: Locals;
  statusCode: number;
  statusMessage: string;
  readonly headersSent: boolean;
  readonly writableEnded: boolean;
  status(code: number): this;
  sendStatus(code: number): this;
  send(body?: string | Uint8Array | object | number | boolean | null): this;
  json(value?: unknown): this;
  jsonp(value?: unknown): this;
  end(chunk?: string | Uint8Array, encoding?: string): this;
  /** Kept until `end`, unless the type is `text/event-stream` or `flushHeaders` was called. */
  write(chunk: string | Uint8Array, encoding?: string): boolean;
  /** Sends the head and streams from then on. The session is then read-only. */
  flushHeaders(): void;
  redirect(url: string): void;
  redirect(status: number, url: string): void;
  location(url: string): this;
  type(type: string): this;
  contentType(type: string): this;
  format(handlers: Record<string, (req: Request, res: Response) => void>): this;
  attachment(filename?: string): this;
  links(links: Record<string, string>): this;
  vary(field: string | string[]): this;
  set(name: string, value: string | string[] | number): this;
  set(headers: Record<string, string | string[] | number>): this;
  header(name: string, value: string | string[] | number): this;
  append(name: string, value: string | string[]): this;
  get(name: string): string | string[] | number | undefined;
  setHeader(name: string, value: string | string[] | number): this;
  getHeader(name: string): string | string[] | number | undefined;
  removeHeader(name: string): void;
  writeHead(status: number, headers?: Record<string, string | string[] | number>): this;
  /** Throws a `CookieError` for the session's cookie. An object is sent as JSON (`j:`). */
  cookie(name: string, value: unknown, options?: CookieOptions): this;
  clearCookie(name: string, options?: CookieOptions): this;
  on(event: string, listener: (...values: any[]) => void): this;
}

/** Calls the next handler, or the next error handler if it receives an error. */
export interface NextFunction {
  (error?: any): void;
  (skip: 'route' | 'router'): void;
}

export type RequestHandler = (req: Request, res: Response, next: NextFunction) => unknown;
export type ErrorHandler = (error: any, req: Request, res: Response, next: NextFunction) => unknown;
export type ParamHandler = (req: Request, res: Response, next: NextFunction, value: string, name: string) => unknown;
export type Path = string | RegExp | (string | RegExp)[];
type Handlers = (RequestHandler | RequestHandler[])[];

interface Verb<Self> {
  (path: Path, ...handlers: Handlers): Self;
}

interface Routing {
  use(...handlers: Handlers): this;
  use(path: Path, ...handlers: Handlers): this;
  /** A handler with four parameters is an error handler. */
  use(handler: ErrorHandler): this;
  use(path: Path, handler: ErrorHandler): this;
  route(path: Path): Route;
  param(name: string, handler: ParamHandler): this;
  all: Verb<this>;
  get: Verb<this>;
  head: Verb<this>;
  post: Verb<this>;
  put: Verb<this>;
  patch: Verb<this>;
  delete: Verb<this>;
  options: Verb<this>;
}

/** Routes that an app uses below a path. */
export interface Router extends Routing {
  (req: Request, res: Response, next: NextFunction): void;
}

type RouteVerb = (...handlers: Handlers) => Route;

/** One path with a handler for each method. */
export interface Route {
  all: RouteVerb;
  get: RouteVerb;
  head: RouteVerb;
  post: RouteVerb;
  put: RouteVerb;
  patch: RouteVerb;
  delete: RouteVerb;
  options: RouteVerb;
}

/** An Express app. Export it as the default export, or call `listen`. */
export interface Application extends Omit<Routing, 'get'> {
  (req: Request, res: Response, next?: NextFunction): void;
  locals: Locals;
  mountpath: string | string[];
  get(setting: string): any;
  get(path: Path, ...handlers: Handlers): this;
  set(setting: string, value: any): this;
  enable(setting: string): this;
  disable(setting: string): this;
  enabled(setting: string): boolean;
  disabled(setting: string): boolean;
  /** Makes this app the guest's handler if the module exports none, and calls the callback. The host listens for requests. */
  listen(...given: unknown[]): { address(): null; close(closed?: () => void): void; on(): void };
}

/** Options of body parsers, as in `body-parser`. Only UTF-8 is supported, and compressed bodies are not. */
export interface BodyOptions {
  limit?: number | string;
  type?: string | string[] | ((req: Request) => boolean);
  verify?: (req: Request, res: Response, body: Uint8Array, encoding: string) => void;
}

export function json(options?: BodyOptions & { strict?: boolean; reviver?: (key: string, value: any) => any }): RequestHandler;
export function urlencoded(options?: BodyOptions & { extended?: boolean; parameterLimit?: number; depth?: number }): RequestHandler;
export function text(options?: BodyOptions & { defaultCharset?: string }): RequestHandler;
export function raw(options?: BodyOptions): RequestHandler;
export function Router(options?: { caseSensitive?: boolean; mergeParams?: boolean; strict?: boolean }): Router;

interface Express {
  (): Application;
  json: typeof json;
  urlencoded: typeof urlencoded;
  text: typeof text;
  raw: typeof raw;
  Router: typeof Router;
}

/** Creates an app of Express 5. */
export const express: Express;
export default express;

/** Can stay in existing code, but is not needed: the host does express-session's work, and its configuration has these options. */
export function session(options?: Record<string, unknown>): RequestHandler;
/** Can stay in existing code, but is not needed: the host does cookie-parser's work, with the secrets of its configuration. */
export function cookieParser(secret?: string | string[], options?: object): RequestHandler;

// ---- fetch ------------------------------------------------------------------------------------------------------------

/** The second argument of a fetch-style handler. In Hono it is `c.env`. */
export interface Env {
  /** The same as `req.session` in Express. */
  readonly session: LiveSession;
  readonly cookies: {
    /** Returns a cookie that does not claim to be signed. */
    get(name: string): any;
    /** Returns a cookie that claims to be signed, or `false` if the host has not signed it. */
    signed(name: string): any;
    /** Sends a cookie with the response. */
    set(name: string, value: unknown, options?: CookieOptions): void;
    clear(name: string, options?: CookieOptions): void;
  };
}

/** A fetch-style guest: `export default { fetch(request, { session }) { ... } } satisfies FetchGuest`. */
export interface FetchGuest {
  fetch(request: globalThis.Request, env: Env): globalThis.Response | Promise<globalThis.Response>;
}

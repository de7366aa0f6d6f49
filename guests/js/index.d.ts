// Types of `cloakroom`: Express as far as a guest has it, the session, and fetch-style handlers.

// ---- the session ------------------------------------------------------------------------------------------------------

/**
 * What is in your sessions. Declare it once:
 *
 * ```ts
 * declare module 'cloakroom' { interface SessionData { cart: Cart } }
 * ```
 */
export interface SessionData {}

/** Called with an error, or with nothing once it is done. */
export type SessionCallback = (error?: SessionError) => void;

/** express-session's methods on `req.session`. Without a callback, an error is thrown. */
export interface SessionMethods {
  /** A stable name for this session that is worthless as a credential; `undefined` before it has one. */
  readonly id: string | undefined;
  readonly cookie: SessionCookie;
  /** New id, no data. What comes after it belongs to the new `req.session`; the old object throws. */
  regenerate(): Promise<void>;
  regenerate(callback: SessionCallback): this;
  /** The logout: deletes the session and has the browser drop its cookie. */
  destroy(): Promise<void>;
  destroy(callback: SessionCallback): this;
  /** Commits now. Seldom needed: no answer leaves before its session is stored. After it, a conflict is answered with 409. */
  save(): Promise<void>;
  save(callback: SessionCallback): this;
  /** Forgets the changes that are not committed and reads the session again. */
  reload(): Promise<void>;
  reload(callback: SessionCallback): this;
  /** Starts the lifetime afresh, which the host does by itself on each use. */
  touch(): this;
  resetMaxAge(): this;
}

/** `req.session`: a property for each entry. Reading one reads it from the host; a change, however deep, is stored. */
export type LiveSession = SessionMethods & Partial<SessionData>;

/** The attributes of the session's cookie. Its lifetime can be set; the rest is the host's configuration. */
export interface SessionCookie {
  /** Milliseconds until it expires; `null`: when the browser is closed. */
  get maxAge(): number | null;
  set maxAge(milliseconds: number | bigint | null);
  /** The lifetime that each use starts afresh, in milliseconds. */
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

/** The session with all that the host offers: what `getSession` gives. Every method may throw a `SessionError`. */
export interface Session {
  get<K extends keyof SessionData>(key: K): SessionData[K] | undefined;
  get(key: string): unknown;
  set<K extends keyof SessionData>(key: K, value: SessionData[K]): void;
  set(key: string, value: unknown): void;
  has(key: string): boolean;
  delete(key: string): void;
  keys(): string[];
  /** Adds (1 if not given) without learning the sum: never causes another run. Absent counts as 0. */
  add(key: string, delta?: number | bigint): void;
  /** Adds (1 if not given) and returns the sum, which no other request of this session is given. */
  increment(key: string, delta?: number | bigint): number;
  /** Removes all entries; id and cookie stay. */
  clear(): void;
  /** New id, same entries: call it when privileges change. */
  renew(): void;
  regenerate(): void;
  destroy(): void;
  save(): void;
  reload(): void;
  touch(): void;
  /** What `req.session = null` does. */
  unset(): void;
  /** Writes what was changed in place now, so that a refusal is thrown here. */
  flush(): void;
  readonly fingerprint: string | undefined;
  readonly cookie: SessionCookie;
}

/** The session of a request: Express's `req`, the `Request` of a fetch-style handler, or a Hono context. */
export function getSession(request: object): Session;

/** Why a call on the session was refused. A refused call has changed nothing. */
export class SessionError extends Error {
  constructor(code: SessionError['code'], message: string, options?: { cause?: unknown });
  /**
   * `denied`: the guest's grant does not cover it. `invalid`: it cannot be right in any session. `too-large`: the session would
   * pass its limit. `committed`: the response has been sent. `unavailable`: the store did not answer (`save`, `reload`).
   */
  readonly code: 'denied' | 'invalid' | 'too-large' | 'committed' | 'unavailable';
  /** What Express answers with if no error handler does otherwise: 413 for `too-large`, 503 for `unavailable`, else 500. */
  readonly status: 413 | 500 | 503;
}

// ---- cookies ----------------------------------------------------------------------------------------------------------

/** What a cookie is sent with. */
export interface CookieOptions {
  /** Lifetime in milliseconds; outranks `expires`. */
  maxAge?: number;
  expires?: Date;
  domain?: string;
  /** `/` if not given. */
  path?: string;
  httpOnly?: boolean;
  secure?: boolean;
  partitioned?: boolean;
  priority?: 'low' | 'medium' | 'high';
  sameSite?: boolean | 'lax' | 'strict' | 'none';
  /** Signed by the host, so that nobody else can have written it. */
  signed?: boolean;
}

/** Why a cookie was refused: the session's own, or what no cookie can hold. */
export class CookieError extends Error {
  constructor(code: CookieError['code'], message: string, options?: { cause?: unknown });
  readonly code: 'denied' | 'invalid';
}

// ---- Express ----------------------------------------------------------------------------------------------------------

/** What `app.locals` and `res.locals` hold. */
export interface Locals extends Record<string, any> {}

/** A request, as Express has it. Declare more of it with `declare module 'cloakroom' { interface Request { ... } }`. */
export interface Request {
  readonly app: Application;
  readonly method: string;
  url: string;
  readonly originalUrl: string;
  readonly baseUrl: string;
  readonly path: string;
  params: Record<string, string>;
  /** As the setting `query parser` says: `simple` by default, as in Express 5. */
  readonly query: Record<string, any>;
  /** What a body parser made of the body; `undefined` without one. */
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
  /** `undefined`: the host does not tell a guest its visitor's address. */
  readonly ip: string | undefined;
  readonly ips: string[];
  /** `undefined` after `destroy`; set it to `null` to do what the host's option `unset` says. */
  get session(): LiveSession;
  set session(nothing: null);
  /** The session's name, worthless as a credential: see `SessionMethods.id`. */
  readonly sessionID: string | undefined;
  /** Cookies that do not claim to be signed. */
  readonly cookies: Record<string, any>;
  /** Cookies that the host has signed; `false` for each that only claims to be. */
  readonly signedCookies: Record<string, any>;
  readonly res: Response;
  route: unknown;
  on(event: string, listener: (...values: any[]) => void): this;
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array>;
}

/** A response, as Express has it. */
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
  /** Sends the head and streams from then on. The session is read-only afterwards. */
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
  /** Throws a `CookieError` for the session's own cookie. An object is sent as JSON (`j:`). */
  cookie(name: string, value: unknown, options?: CookieOptions): this;
  clearCookie(name: string, options?: CookieOptions): this;
  on(event: string, listener: (...values: any[]) => void): this;
}

/** Goes on with the next handler, or with the next error handler. */
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
  /** Four parameters make it an error handler. */
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

/** Routes that are used below a path of an app. */
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

/** An Express app. Export it as default, or call `listen`. */
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
  /** Makes this app the guest's handler, if it exports none, and calls back. The host listens. */
  listen(...given: unknown[]): { address(): null; close(closed?: () => void): void; on(): void };
}

/** Options of body parsers, as `body-parser` has them. Only UTF-8 is read, and nothing compressed. */
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

/** Makes an app: Express 5. */
export const express: Express;
export default express;

/** May stay in the code: the host does express-session's work, and its configuration has these options. */
export function session(options?: Record<string, unknown>): RequestHandler;
/** May stay in the code: the host does cookie-parser's work, with the secrets of its configuration. */
export function cookieParser(secret?: string | string[], options?: object): RequestHandler;

// ---- fetch ------------------------------------------------------------------------------------------------------------

/** What a fetch-style handler gets beside the request; in Hono it is `c.env`. */
export interface Env {
  /** As `req.session` in Express. */
  readonly session: LiveSession;
  readonly cookies: {
    /** A cookie that does not claim to be signed. */
    get(name: string): any;
    /** A cookie that the host has signed; `false` if it only claims to be. */
    signed(name: string): any;
    /** Sends a cookie with the answer. */
    set(name: string, value: unknown, options?: CookieOptions): void;
    clear(name: string, options?: CookieOptions): void;
  };
}

/** A fetch-style guest: `export default { fetch(request, { session }) { ... } } satisfies FetchGuest`. */
export interface FetchGuest {
  fetch(request: globalThis.Request, env: Env): globalThis.Response | Promise<globalThis.Response>;
}

// Tests of the types, for `tsc` only: correct uses compile, and each wrong use must be an error.

import express, { Router, SessionError, cookieParser, getSession, session } from 'cloakroom';
import type { FetchGuest, RequestHandler } from 'cloakroom';
import { startHost } from 'cloakroom/testing';

declare module 'cloakroom' {
  interface SessionData {
    user: { name: string };
  }
}

const app = express();
app.set('query parser', 'extended').use(session({ resave: false })).use(cookieParser());

const isKnown: RequestHandler = (req, res, next) => (req.session.user ? next() : res.redirect(303, '/login'));
const router = Router().get('/me', isKnown, (req, res) => res.json({ name: req.session.user?.name, id: req.sessionID }));
app.use('/account', router);

app.post('/login', async (req, res) => {
  await req.session.regenerate();
  req.session.user = { name: 'ada' };
  req.session.cookie.maxAge = 60_000;
  // @ts-expect-error a user has a name
  req.session.user = { nom: 'ada' };
  // @ts-expect-error the host's configuration says whether it is secure
  req.session.cookie.secure = true;
  const user: string | undefined = getSession(req).get('user')?.name;
  res.cookie('user', user, { signed: true, sameSite: 'lax' }).sendStatus(204);
});

app.post('/logout', (req, res, next) => {
  req.session.destroy((error) => {
    if (error instanceof SessionError && error.code === 'unavailable') return next(error);
    res.redirect('/');
  });
  req.session = null;
});

app.use((error: unknown, _req: unknown, res: import('cloakroom').Response, _next: unknown) => {
  res.status(500).send(String(error));
});

export const guest = {
  fetch: (request, { session: live, cookies }) => {
    cookies.set('seen', new URL(request.url).pathname);
    return new Response(live.user?.name);
  },
} satisfies FetchGuest;

export async function used(): Promise<number> {
  const host = await startHost();
  const ada = await host.visitor({ user: { name: 'ada' } });
  await host.rival({ set: { num: 1 } });
  return (await ada.get('/')).status;
}

export default app;

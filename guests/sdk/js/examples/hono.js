// A Hono app as a guest. The session is in `c.env`.

import { getSession } from 'cloakroom';
import { Hono } from 'hono';

const app = new Hono();

app.get('/visits', (c) => {
  const { session } = c.env;
  session.visits = (session.visits ?? 0) + 1;
  return c.text(`visit ${session.visits}`);
});

app.post('/likes', (c) => c.json({ likes: getSession(c).increment('likes') }));

app.post('/name', async (c) => {
  const { name } = await c.req.parseBody();
  c.env.session.name = name;
  c.env.cookies.set('greeted', 'yes', { httpOnly: true });
  return c.redirect('/name', 303);
});

app.get('/name', (c) => c.json({ name: c.env.session.name ?? null, greeted: c.env.cookies.get('greeted') ?? null }));

export default app;

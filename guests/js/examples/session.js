// What a session can do, beyond counting.

import { express, getSession, session } from 'cloakroom';

const app = express();

// May stay in the code: the host does this work, and its configuration has these options.
app.use(session({ resave: false, saveUninitialized: false }));
app.use(express.json());

// A change inside a value is noticed: nothing needs to be written back.
app.post('/cart', (req, res) => {
  req.session.cart ??= { items: [] };
  req.session.cart.items.push(req.body);
  res.status(201).json(req.session.cart);
});

// Nobody may know the id from before a login.
app.post('/login', async (req, res) => {
  await req.session.regenerate();
  req.session.user = { name: req.body.name };
  if (req.body.remember) req.session.cookie.maxAge = 30 * 24 * 60 * 60 * 1000;
  res.json({ welcome: req.session.user.name });
});

// `renew` is what Express lacks: a new id, and all entries stay.
app.post('/sudo', (req, res) => {
  getSession(req).renew();
  req.session.isAdmin = true;
  res.sendStatus(204);
});

app.post('/logout', (req, res, next) => {
  req.session.destroy((error) => (error ? next(error) : res.redirect(303, '/me')));
});

app.get('/me', (req, res) => {
  // A name for this session that is worthless as a credential, for logs and caches.
  res.json({ user: req.session.user ?? null, isAdmin: 'isAdmin' in req.session, known: req.sessionID !== undefined });
});

// No two requests are given the same number, and nothing is lost among many at once.
app.post('/votes', (req, res) => {
  res.json({ votes: getSession(req).increment('votes') });
});

export default app;

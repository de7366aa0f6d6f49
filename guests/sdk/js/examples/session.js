// Other uses of the session than counting.

import { express, getSession, session } from 'cloakroom';

const app = express();

// Can stay in existing code: the host does this work, and its configuration has these options.
app.use(session({ resave: false, saveUninitialized: false }));
app.use(express.json());

// A change inside a value is stored. The value need not be written back.
app.post('/cart', (req, res) => {
  req.session.cart ??= { items: [] };
  req.session.cart.items.push(req.body);
  res.status(201).json(req.session.cart);
});

// An id from before the login is worthless after it.
app.post('/login', async (req, res) => {
  await req.session.regenerate();
  req.session.user = { name: req.body.name };
  if (req.body.remember) req.session.cookie.maxAge = 30 * 24 * 60 * 60 * 1000;
  res.json({ welcome: req.session.user.name });
});

// `renew`, which Express does not have, gives the session a new id and keeps all entries.
app.post('/sudo', (req, res) => {
  getSession(req).renew();
  req.session.isAdmin = true;
  res.sendStatus(204);
});

app.post('/logout', (req, res, next) => {
  req.session.destroy((error) => (error ? next(error) : res.redirect(303, '/me')));
});

app.get('/me', (req, res) => {
  // `sessionID` is a name for this session, for logs and caches. It is worthless as a credential.
  res.json({ user: req.session.user ?? null, isAdmin: 'isAdmin' in req.session, known: req.sessionID !== undefined });
});

// No two requests receive the same number, and no parallel vote is lost.
app.post('/votes', (req, res) => {
  res.json({ votes: getSession(req).increment('votes') });
});

export default app;

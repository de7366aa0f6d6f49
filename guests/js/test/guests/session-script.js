// The guest of the end-to-end tests for sessions: one route for each use and misuse of a session.

import { SessionError, cookieParser, express, getSession, session } from 'cloakroom';

const app = express();
app.use(session({ secret: 'never shown', name: 'sid', resave: false }));
app.use(cookieParser('never shown either'));
app.use(express.json());

const told = (error) => (error instanceof SessionError ? `${error.code}: ${error.message}` : `${error.name}: ${error.message}`);

/** Answers with the error that the work threw, or with `ok`. */
const attempt = (work) => async (req, res) => {
  let text = 'ok';
  try {
    await work(req, res);
  } catch (error) {
    text = told(error);
  }
  res.type('text').send(text);
};

app.get('/all', (req, res) => {
  const { cookie: _, ...all } = { ...req.session };
  res.json(all);
});
app.put('/all', attempt((req) => Object.assign(req.session, req.body)));
app.get('/keys', (req, res) => res.json(Object.keys(req.session)));
app.get('/text', (req, res) => res.type('json').send(JSON.stringify(req.session)));

app.get('/nested/push', (req, res) => {
  req.session.cart.items.push('pear');
  res.send('ok');
});
app.get('/nested/cycle', attempt((req) => {
  req.session.cart.self = req.session.cart;
  getSession(req).flush();
}));
app.get('/nested/cycle/silent', (req, res) => {
  req.session.cart.self = req.session.cart;
  res.send('not reached');
});

app.get('/late/write', (req, res) => {
  res.send('sent');
  req.session.late = 1;
});
app.get('/late/nested', (req, res) => {
  const { items } = req.session.cart;
  res.send('sent');
  items.push('late');
});
app.get('/late/async', async (req, res) => {
  res.send('sent');
  await new Promise((done) => setTimeout(done, 5));
  req.session.late = 1;
});
app.get('/late/date', (req, res) => {
  const when = new Date(0);
  req.session.when = when;
  res.send('sent');
  when.setFullYear(1999);
});
app.get('/late/headers', (req, res) => {
  res.send('sent');
  res.set('x-late', '1');
});

app.get('/big/read', attempt((req) => req.session.big));
app.get('/big/other', attempt((req) => void (req.session.other = 1)));
app.get('/big/write', attempt((req) => void (req.session.n = { deep: [2 ** 53] })));
app.get('/big/bigint', attempt((req) => void (req.session.n = { deep: 5n })));
app.get('/big/increment', attempt((req) => void getSession(req).increment('big', 1)));
app.get('/less', (req, res) => res.json([getSession(req).increment('less', -3), getSession(req).increment('less', -1)]));
app.get('/big/age', attempt((req) => void (req.session.cookie.maxAge = 2n ** 60n)));

app.get('/invisible', (req, res) => {
  Object.assign(req.session, { gone: undefined, call: () => {}, sign: Symbol('s'), when: new Date(0), kept: { gone: undefined, n: 1 } });
  res.json({ call: typeof req.session.call });
});

app.get('/regenerate/callback', (req, res, next) => {
  const before = req.session.user;
  req.session.regenerate((error) => {
    if (error) return next(error);
    req.session.user = before;
    res.json({ keys: Object.keys(req.session) });
  });
});
app.get('/regenerate/promise', async (req, res) => {
  const old = req.session;
  const { cart } = old;
  await old.regenerate();
  req.session.cart = cart;
  req.session.cart.items.push('kept');
  const stale = [() => old.x, () => (old.x = 1), () => cart.items.push('stale')].map((work) => {
    try {
      work();
      return 'lost';
    } catch (error) {
      return error.name;
    }
  });
  res.json(stale);
});
app.get('/destroy/promise', async (req, res) => {
  const old = req.session;
  const { cart } = old;
  await old.destroy();
  const after = [() => (old.x = 1), () => cart.items.push('stale'), () => old.x].map((work) => {
    try {
      return String(work());
    } catch (error) {
      return error.code ?? error.name;
    }
  });
  res.json({ after, session: typeof req.session });
});
app.get('/save/callback', (req, res) => {
  req.session.cart.items.push('saved');
  req.session.save((error) => {
    req.session.cart.items.push('after');
    res.json({ error: error ?? null });
  });
});
app.get('/reload/promise', async (req, res) => {
  const { cart } = req.session;
  cart.items.push('dropped');
  await req.session.reload();
  res.json({ items: req.session.cart.items, same: req.session.cart === cart });
});
app.get('/unset', (req, res) => {
  req.session = null;
  res.json({ session: req.session });
});
app.get('/age', (req, res) => {
  req.session.seen = true;
  req.session.cookie.maxAge = 60_000;
  const { maxAge, originalMaxAge, expires, httpOnly, path } = req.session.cookie;
  res.json({ near: maxAge > 50_000 && maxAge <= 60_000, originalMaxAge, isDate: expires instanceof Date, httpOnly, path });
});
app.get('/age/none', (req, res) => {
  req.session.cookie.maxAge = null;
  res.json({ maxAge: req.session.cookie.maxAge });
});
app.get('/attributes', (req, res) => res.json(req.session.cookie));
app.get('/id', (req, res) => res.json({ id: req.session.id ?? null, same: req.session.id === req.sessionID }));
app.get('/touch', (req, res) => res.send(typeof req.session.touch().cookie));

app.get('/denied', attempt((req) => void (req.session.secret = 1)));
app.get('/denied/unawaited', (req, res) => {
  // No code awaits this promise, but its error must not be lost.
  req.session.destroy();
  res.send('not reached');
});

app.get('/cookies', (req, res) => res.json({ plain: req.cookies, signed: req.signedCookies }));
app.get('/cookies/set', (req, res) => {
  res.cookie('plain', 'a b', { maxAge: 60_000 }).cookie('json', { n: 1 }).cookie('signed', 'gold', { signed: true, httpOnly: true });
  res.send('ok');
});
app.get('/cookies/clear', (req, res) => res.clearCookie('plain').send('ok'));
app.get('/cookies/session', (req, res) => {
  try {
    res.cookie('connect.sid', 'forged');
    res.send('set');
  } catch (error) {
    res.send(`${error.name} ${error.code}`);
  }
});

app.get('/throw', () => {
  throw new Error('told to the log alone');
});
app.get('/reject', async () => {
  await null;
  throw new Error('rejected for the log alone');
});
app.post('/body', (req, res) => res.set('Connection', 'keep-alive').json({ body: req.body ?? null }));
app.get('/header', (req, res) => res.set('x-made', `a\r\nset-cookie: b=1`).send('not reached'));
app.get('/timer', (req, res) => {
  setTimeout(() => {
    throw new Error('thrown by a timer');
  }, 1);
  setTimeout(() => res.send('ok'), 5);
});
app.get('/stream/late', async (req, res) => {
  res.type('text/event-stream').write('data: first\n\n');
  await new Promise((done) => setTimeout(done, 20));
  req.session.late = 1;
  res.end('data: not reached\n\n');
});
for (const method of ['save', 'regenerate', 'destroy', 'reload']) {
  app.get(`/callback/${method}`, (req) => {
    req.session[method](() => {
      throw new Error(`thrown by the callback of ${method}`);
    });
  });
}
app.get('/soon', (req, res) => {
  setImmediate(() => {
    throw new Error('thrown by setImmediate');
  });
  process.nextTick(() => {
    throw new Error('thrown by nextTick');
  });
  res.send('ok');
});
app.get('/destroyed', (req) => void req.socket.destroy());
app.get('/random', (req, res) => res.send(String(Math.random())));
app.get('/fruit/:kind{/:size}', (req, res) => res.json({ ...req.params, ...req.query, url: req.originalUrl, protocol: req.protocol }));
app.get(/^\/letters\/([a-z]+)$/, (req, res) => res.send(req.params[0]));

app.listen(3000, () => {});

// The Express peer: express-session and express-mysql-session as in their documentation, with the classic's two routes and a few routes for
// the tests. It reads its options as JSON from the environment and prints its port to standard output.
'use strict';
const express = require('express');
const session = require('express-session');
const MySQLStore = require('express-mysql-session')(session);

const options = JSON.parse(process.env.PEER_OPTIONS);
const store = new MySQLStore(options.store);
const app = express();

app.use(session({ resave: false, saveUninitialized: false, ...options.session, store }));

// Lets a test act between Express's load and its save.
const pause = (ms) => new Promise((done) => setTimeout(done, Number(ms) || 0));

app.get('/session', async (req, res) => {
  req.session.num = (req.session.num || 0) + 1;
  await pause(req.query.pause);
  res.send(`${req.session.num}번 접속`);
});

app.get('/session/delete', (req, res, next) => {
  req.session.destroy((error) => (error ? next(error) : res.redirect('/session')));
});

app.get('/set', async (req, res) => {
  req.session[req.query.key] = JSON.parse(req.query.value);
  await pause(req.query.pause);
  res.send('ok');
});

app.get('/all', (req, res) => {
  res.json({ id: req.session.id, data: req.session });
});

app.get('/login', (req, res, next) => {
  req.session.regenerate((error) => {
    if (error) return next(error);
    req.session.user = req.query.user;
    res.send('ok');
  });
});

store.onReady().then(() => {
  const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port));
}, (error) => {
  console.error(error);
  process.exit(1);
});

// The counter with Express and express-session, set up for production as their documentation shows: one process,
// NODE_ENV=production. PEER_STORE contains express-mysql-session's options as JSON. Without it, sessions are in MemoryStore. The
// packages are those of the end-to-end tests' Express peer.
'use strict';
const { createRequire } = require('module');
const { join } = require('path');
const packages = createRequire(join(__dirname, '../../../../tests/express/app.js'));
const express = packages('express');
const session = packages('express-session');

const app = express();
const options = {
  secret: process.env.PEER_SECRET,
  resave: false,
  saveUninitialized: false,
};
let ready = Promise.resolve();
if (process.env.PEER_STORE) {
  const MySQLStore = packages('express-mysql-session')(session);
  options.store = new MySQLStore(JSON.parse(process.env.PEER_STORE));
  ready = options.store.onReady();
}
app.use(session(options));

app.get('/session', (req, res) => {
  req.session.num = (req.session.num || 0) + 1;
  res.send(`${req.session.num}번 접속`);
});

ready.then(() => app.listen(Number(process.env.PORT), '127.0.0.1'), (error) => {
  console.error(error);
  process.exit(1);
});

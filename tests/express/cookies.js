// The cookie peer: real cookie-parser and Express's own res.cookie, asked over HTTP. Its secrets come as JSON in the environment,
// the first signs; the port goes to standard output.
'use strict';
const express = require('express');
const cookieParser = require('cookie-parser');
const signature = require('cookie-parser/node_modules/cookie-signature');

const { secrets } = JSON.parse(process.env.PEER_OPTIONS);
const app = express();

app.use(cookieParser(secrets));
app.use(express.json({ limit: '1mb' }));

// What a value says, as JSON text: the same for whoever has parsed the same.
const said = (value) => JSON.stringify(value);

// What cookie-parser makes of the request's cookies.
app.get('/read', (req, res) => {
  const list = (cookies, signed) =>
    Object.keys(cookies).map((name) => ({ name, signed, said: said(cookies[name]) }));
  res.json([...list(req.cookies, false), ...list(req.signedCookies, true)]);
});

// The same of what a guest was given: `text`, `json` (the JSON's text) or neither.
app.post('/said', (req, res) => {
  const value = ({ text, json }) => text ?? (json === undefined ? false : JSON.parse(json));
  res.json(req.body.map((cookie) => ({ name: cookie.name, signed: cookie.signed, said: said(value(cookie)) })));
});

// Writes a cookie with res.cookie; what that throws is a 400.
app.post('/write', (req, res) => {
  const { name, text, json, expires, ...options } = req.body;
  if (expires !== undefined) options.expires = new Date(expires);
  try {
    res.cookie(name, json === undefined ? text : JSON.parse(json), options).send('ok');
  } catch (error) {
    res.status(400).send(error.message);
  }
});

// A signed value as cookie-signature makes it.
app.post('/sign', (req, res) => {
  res.type('text').send(`s:${signature.sign(req.body.text, req.body.secret)}`);
});

const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port));

// The cookie peer: the real cookie-parser and Express's own res.cookie, accessible over HTTP. It reads its secrets as JSON from the
// environment; the first one signs. It prints its port to standard output.
'use strict';
const express = require('express');
const cookieParser = require('cookie-parser');
const signature = require('cookie-parser/node_modules/cookie-signature');

const { secrets } = JSON.parse(process.env.PEER_OPTIONS);
const app = express();

app.use(cookieParser(secrets));
app.use(express.json({ limit: '1mb' }));

// A value as JSON text, which is equal for equal parsed values.
const said = (value) => JSON.stringify(value);

// Returns the request's cookies as cookie-parser parses them.
app.get('/read', (req, res) => {
  const list = (cookies, signed) =>
    Object.keys(cookies).map((name) => ({ name, signed, said: said(cookies[name]) }));
  res.json([...list(req.cookies, false), ...list(req.signedCookies, true)]);
});

// Returns the same for cookies as a guest received them: each has `text`, `json` (the text of the JSON) or neither.
app.post('/said', (req, res) => {
  const value = ({ text, json }) => text ?? (json === undefined ? false : JSON.parse(json));
  res.json(req.body.map((cookie) => ({ name: cookie.name, signed: cookie.signed, said: said(value(cookie)) })));
});

// Writes a cookie with res.cookie; an error that res.cookie throws becomes a 400.
app.post('/write', (req, res) => {
  const { name, text, json, expires, ...options } = req.body;
  if (expires !== undefined) options.expires = new Date(expires);
  try {
    res.cookie(name, json === undefined ? text : JSON.parse(json), options).send('ok');
  } catch (error) {
    res.status(400).send(error.message);
  }
});

// Returns a value signed by cookie-signature.
app.post('/sign', (req, res) => {
  res.type('text').send(`s:${signature.sign(req.body.text, req.body.secret)}`);
});

const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port));

// Plain, signed and JSON cookies. The host signs them; the guest never receives the secret.

import { express } from 'cloakroom';

const app = express();

app.get('/', (req, res) => {
  res.json({ cookies: req.cookies, signedCookies: req.signedCookies });
});

app.post('/', (req, res) => {
  res.cookie('theme', 'dark', { maxAge: 86_400_000 });
  res.cookie('plan', 'gold', { signed: true, httpOnly: true, sameSite: 'lax' });
  res.cookie('basket', { items: [1, 2] });
  res.sendStatus(204);
});

app.delete('/', (req, res) => {
  res.clearCookie('theme').clearCookie('plan').clearCookie('basket');
  res.sendStatus(204);
});

export default app;

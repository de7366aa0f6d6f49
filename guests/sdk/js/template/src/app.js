// The routes: a counter for each visitor, and a route that starts the count again.

import { express } from 'cloakroom';

const app = express();

app.get('/session', (req, res) => {
  req.session.num = (req.session.num ?? 0) + 1;
  res.send(`${req.session.num}번 접속`);
});

app.get('/session/delete', (req, res, next) => {
  req.session.destroy((error) => (error ? next(error) : res.redirect('/session')));
});

app.get('/', (req, res) => res.redirect('/session'));

export default app;

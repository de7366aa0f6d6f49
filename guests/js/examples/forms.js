// A form, what was wrong with it (a flash message), and what came of it.

import { express } from 'cloakroom';

const app = express();
app.use(express.urlencoded());

app.get('/form', (req, res) => {
  const { flash = '' } = req.session;
  delete req.session.flash;
  res.send(`<p>${flash}</p><form method="post"><input name="title"><button>Keep</button></form>`);
});

app.post('/form', (req, res) => {
  const title = req.body?.title?.trim();
  req.session.flash = title ? 'kept' : 'a title is missing';
  if (title) (req.session.titles ??= []).push(title);
  res.redirect(303, '/form');
});

app.get('/titles', (req, res) => {
  res.json(req.session.titles ?? []);
});

export default app;

// A form, a notice about a missing field, and the stored titles.

import { express } from 'cloakroom';

const app = express();
app.use(express.urlencoded());

app.get('/form', (req, res) => {
  const { notice = '' } = req.session;
  delete req.session.notice;
  res.send(`<p>${notice}</p><form method="post"><input name="title"><button>Keep</button></form>`);
});

app.post('/form', (req, res) => {
  const title = req.body?.title?.trim();
  req.session.notice = title ? 'kept' : 'a title is missing';
  if (title) (req.session.titles ??= []).push(title);
  res.redirect(303, '/form');
});

app.get('/titles', (req, res) => {
  res.json(req.session.titles ?? []);
});

export default app;

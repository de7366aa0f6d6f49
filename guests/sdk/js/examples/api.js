// A JSON API: a router, parameters, an error that is sent to the visitor, and an error that is only logged.

import { Router, express } from 'cloakroom';

const app = express();
const notes = Router();

notes.param('id', (req, res, next, id) => {
  const note = (req.session.notes ?? []).find((known) => known.id === Number(id));
  if (!note) return next(Object.assign(new Error('no such note'), { status: 404, expose: true }));
  req.note = note;
  next();
});

notes
  .route('/')
  .get((req, res) => res.json(req.session.notes ?? []))
  .post((req, res) => {
    const known = (req.session.notes ??= []);
    const note = { id: known.length + 1, text: req.body.text };
    known.push(note);
    res.status(201).location(`${req.baseUrl}/${note.id}`).json(note);
  });

notes
  .route('/:id')
  .get((req, res) => res.json(req.note))
  .patch((req, res) => {
    // `req.note` is a part of the session, so this changes the session.
    Object.assign(req.note, { text: req.body.text });
    res.json(req.note);
  });

app.use(express.json());
app.use('/notes', notes);

app.get('/broken', async () => {
  throw new Error('the reason is for the log alone');
});

// A handler with four parameters is an error handler.
app.use((error, req, res, next) => {
  if (!error.expose) return next(error);
  res.status(error.status).json({ error: error.message });
});

export default app;

// Server-sent events. The head is sent with the first event, and from then on the session is read-only.

import { express } from 'cloakroom';

const app = express();

app.get('/events', async (req, res) => {
  req.session.streams = (req.session.streams ?? 0) + 1;
  res.type('text/event-stream');
  for (let n = 1; n <= 3; n++) {
    res.write(`data: ${req.session.streams}.${n}\n\n`);
    await new Promise((done) => setTimeout(done, 20));
  }
  res.end();
});

export default app;

// Calls another server. It needs `--engine starlingmonkey`, and `outbound_hosts` in the guest's configuration.

import { express } from 'cloakroom';

const app = express();

app.get('/relay', async (req, res) => {
  const answer = await fetch(String(req.query.url));
  req.session.relayed = (req.session.relayed ?? 0) + 1;
  res.status(answer.status).json({ relayed: req.session.relayed, text: await answer.text() });
});

export default app;

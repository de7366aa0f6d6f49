// TypeScript. The types of the session's entries are declared once, as with express-session's types.

import { express, getSession } from 'cloakroom';
import type { Request, Response } from 'cloakroom';

interface Cart {
  items: { title: string; price: number }[];
}

declare module 'cloakroom' {
  interface SessionData {
    cart: Cart;
    views: number;
  }
}

const app = express();
app.use(express.json());

app.get('/cart', (req: Request, res: Response) => {
  const cart = req.session.cart ?? { items: [] };
  res.json({ total: cart.items.reduce((sum, { price }) => sum + price, 0) });
});

app.post('/cart', (req, res) => {
  const { title, price } = req.body as { title: string; price: number };
  req.session.cart ??= { items: [] };
  req.session.cart.items.push({ title, price });
  res.status(201).json({ views: getSession(req).increment('views') });
});

export default app;

// A fetch-style handler: it receives a `Request` and returns a `Response`.

import { SessionError } from 'cloakroom';

export default {
  async fetch(request, { session, cookies }) {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === '/logout') {
      await session.destroy();
      return new Response(null, { status: 303, headers: { location: '/' } });
    }
    if (request.method === 'POST') return remember(await request.json(), session, cookies);
    const lines = [`hello ${session.user?.name ?? 'stranger'}`, `plan ${cookies.signed('plan') ?? 'none'}`, `q ${searchParams.get('q')}`];
    return new Response(lines.join('\n'));
  },
};

function remember({ name, plan }, session, cookies) {
  try {
    session.user = { name };
  } catch (error) {
    if (error instanceof SessionError) return Response.json({ code: error.code }, { status: 403 });
    throw error;
  }
  cookies.set('plan', plan, { signed: true, httpOnly: true });
  return Response.json({ remembered: name }, { status: 201 });
}

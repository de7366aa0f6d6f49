// The guest of the end-to-end tests for fetch-style handlers: a stream that fails after its first chunk.

const chunk = (text) => new TextEncoder().encode(text);

export default {
  fetch(request, { session }) {
    let pulls = 0;
    const body = new ReadableStream({
      async pull(controller) {
        pulls += 1;
        if (pulls === 1) return controller.enqueue(chunk('data: first\n\n'));
        await new Promise((done) => setTimeout(done, 20));
        session.late = 1;
        controller.close();
      },
    });
    return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
  },
};

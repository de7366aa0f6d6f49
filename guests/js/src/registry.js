// The app that called `listen`, for guests that export nothing, and what is to be said once, when the guest is built.

let app;
let express;
const notes = [];

/** How to answer with an Express app. Said by `express.js`, which is bundled only if the guest uses it. */
export function answersExpress(answer) {
  express = answer;
}

/** What `answersExpress` was told. */
export function expressAnswerer() {
  return express;
}

/** An Express app called `listen`: it is the guest's handler. */
export function listens(listening) {
  app = listening;
}

/** The app that called `listen` last. */
export function listeningApp() {
  return app;
}

/** Something that the author should know: shown once by the build, never at a request. */
export function note(text) {
  if (!notes.includes(text)) notes.push(text);
}

/** All of them so far. */
export function takeNotes() {
  return notes.splice(0);
}

// The app that called `listen`, for guests that export nothing, and the notes that the build shows once.

let app;
let express;
const notes = [];

/** Sets the function that answers a request with an Express app. `express.js` calls this, which is bundled only if the guest uses it. */
export function answersExpress(answer) {
  express = answer;
}

/** Returns the function that `answersExpress` has set. */
export function expressAnswerer() {
  return express;
}

/** Records that an Express app called `listen`, which makes it the guest's handler. */
export function listens(listening) {
  app = listening;
}

/** Returns the app that called `listen` last. */
export function listeningApp() {
  return app;
}

/** Adds a note for the guest author. The build shows it once. It is never shown while a request is handled. */
export function note(text) {
  if (!notes.includes(text)) notes.push(text);
}

/** Removes and returns all notes so far. */
export function takeNotes() {
  return notes.splice(0);
}

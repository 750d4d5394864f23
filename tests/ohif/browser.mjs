// As much of a browser as the viewer's library looks for when it is loaded.
import { JSDOM } from 'jsdom';

const { window } = new JSDOM('');
globalThis.window ??= window;
globalThis.document ??= window.document;
globalThis.self ??= globalThis;
for (const name of ['HTMLElement', 'CustomEvent', 'Image', 'XMLHttpRequest', 'HTMLCanvasElement']) {
  globalThis[name] ??= window[name];
}

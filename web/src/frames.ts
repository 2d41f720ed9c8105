// Whether the page is in a frame of another site.

export function isEmbedded(): boolean {
  return window.parent !== window;
}

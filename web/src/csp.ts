// xterm.js creates `<style>` elements and `style="…"` attributes. The pages' Content-Security-Policy (`style-src 'self'`)
// blocks both, so this file sets the same styles through the CSSOM, which the policy allows.
//
//   <style>.textContent = css            →  a constructed sheet in document.adoptedStyleSheets
//   span.setAttribute("style", css)      →  span.style.cssText = css
//
// The `documentOverride` option of xterm.js does not cover all places where it creates elements.

/** An element to use instead of `<style>`: its text becomes a constructed style sheet, which is removed with the element. */
function sheetElement(document: Document): HTMLElement {
  // Not a `<style>` element: the policy reports even an empty one.
  const element = document.createElementNS("http://www.w3.org/1999/xhtml", "template") as HTMLElement;
  const sheet = new CSSStyleSheet();
  let text = "";
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  Object.defineProperty(element, "textContent", {
    get: () => text,
    set: (css: string) => {
      text = css;
      sheet.replaceSync(css);
    },
  });
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((other) => other !== sheet);
    Element.prototype.remove.call(element);
  };
  return element;
}

/** Runs `create`; the style elements that it creates use constructed sheets, also after this call. */
export function withConstructedSheets<T>(document: Document, create: () => T): T {
  const native = document.createElement;
  document.createElement = ((name: string, options?: ElementCreationOptions) =>
    name === "style" ? sheetElement(document) : native.call(document, name, options)) as Document["createElement"];
  try {
    return create();
  } finally {
    // The property on the instance hides the method of the prototype; deleting it restores the method.
    Reflect.deleteProperty(document, "createElement");
  }
}

/** Makes `setAttribute("style", …)` on a span use the CSSOM from now on: the same effect, allowed by the policy. */
export function styleSpansByCssom(): void {
  HTMLSpanElement.prototype.setAttribute = function setAttribute(name: string, value: string) {
    if (name === "style") this.style.cssText = value;
    else Element.prototype.setAttribute.call(this, name, value);
  };
}

/** Adds a style sheet to the document, in a form that the policy allows. */
export function adoptStyles(document: Document, css: string): void {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
}

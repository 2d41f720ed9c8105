// xterm.js makes `<style>` elements and `style="…"` attributes. The pages' Content-Security-Policy (`style-src 'self'`)
// stops both, and rightly: so here the same styles go through the CSSOM, which the policy allows.
//
//   <style>.textContent = css            →  a constructed sheet in document.adoptedStyleSheets
//   span.setAttribute("style", css)      →  span.style.cssText = css
//
// xterm's own way to be given another document does not reach all places where it makes elements.

/** Stands where a `<style>` element would: its text is a constructed sheet, which leaves with it. */
function sheetElement(document: Document): HTMLElement {
  // No `<style>`: the policy reports even an empty one.
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

/** Runs `make` while style elements are made that way; what `make` keeps works so ever after. */
export function withConstructedSheets<T>(document: Document, make: () => T): T {
  const native = document.createElement;
  document.createElement = ((name: string, options?: ElementCreationOptions) =>
    name === "style" ? sheetElement(document) : native.call(document, name, options)) as Document["createElement"];
  try {
    return make();
  } finally {
    // The own property shadows the prototype's; taking it away brings that back.
    Reflect.deleteProperty(document, "createElement");
  }
}

/** From now on, a style attribute given to a span by script goes through the CSSOM: the same effect, allowed by policy. */
export function styleSpansByCssom(): void {
  HTMLSpanElement.prototype.setAttribute = function setAttribute(name: string, value: string) {
    if (name === "style") this.style.cssText = value;
    else Element.prototype.setAttribute.call(this, name, value);
  };
}

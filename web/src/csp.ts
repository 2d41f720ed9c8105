// xterm.js makes `<style>` elements and `style="…"` attributes. The pages' Content-Security-Policy (`style-src 'self'`)
// stops both, and rightly: so here the same styles go through the CSSOM, which the policy allows.
//
//   <style>.textContent = css   →  a constructed sheet in document.adoptedStyleSheets
//   setAttribute("style", css)  →  element.style.cssText = css

/** A `<style>` element that stays empty: its text becomes a constructed sheet, which leaves with the element. */
function styleElement(document: Document, native: Document["createElement"]): HTMLStyleElement {
  const element = native.call(document, "style") as HTMLStyleElement;
  // Of another type, the element itself is no style to the browser, not even an empty one.
  element.type = "text/plain";
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

function created(document: Document, native: Document["createElement"], name: string): HTMLElement {
  if (name === "style") return styleElement(document, native);
  const element = native.call(document, name) as HTMLElement;
  if (name === "span") {
    element.setAttribute = (attribute: string, value: string) => {
      if (attribute === "style") element.style.cssText = value;
      else Element.prototype.setAttribute.call(element, attribute, value);
    };
  }
  return element;
}

/** The document as xterm.js may see it: everything is the real one's but how elements are made. */
export function policyAbiding(document: Document): Document {
  const native = document.createElement;
  return new Proxy(document, {
    get(target, property) {
      if (property === "createElement") return (name: string) => created(target, native, name);
      const value: unknown = Reflect.get(target, property, target);
      return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(target) : value;
    },
    set: (target, property, value) => Reflect.set(target, property, value, target),
  });
}

/** Runs `make` while `document` itself makes style elements that way (xterm's viewport does not take another document). */
export function whilePolicyAbiding<T>(document: Document, make: () => T): T {
  const native = document.createElement;
  document.createElement = ((name: string, options?: ElementCreationOptions) =>
    name === "style" ? styleElement(document, native) : native.call(document, name, options)) as Document["createElement"];
  try {
    return make();
  } finally {
    // The own property shadows the prototype's; taking it away brings the real one back.
    Reflect.deleteProperty(document, "createElement");
  }
}

// Keeps the place of a person who uses the keyboard. When a page removes, hides or disables the element with the focus, the browser puts
// the focus on nothing: the person and the screen reader are at no place of the page.

const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";

function isShown(element: Element): boolean {
  return element.isConnected && element.checkVisibility({ checkVisibilityCSS: true });
}

function isUsable(element: Element): element is HTMLElement {
  return element instanceof HTMLElement && element.tabIndex >= 0 && !element.matches(":disabled") && isShown(element);
}

/** The closest place to one that was removed or hidden: a control in the smallest part of the page that is left of its surroundings. */
function closestPlace(ancestors: readonly Element[]): HTMLElement | null {
  for (const ancestor of ancestors) {
    if (!ancestor.isConnected) continue;
    if (ancestor.matches("main, body")) break;
    const place = [ancestor, ...ancestor.querySelectorAll(FOCUSABLE)].find((element) => element.matches(FOCUSABLE) && isUsable(element));
    if (place instanceof HTMLElement) return place;
  }
  const heading = document.querySelector<HTMLElement>("main h1");
  if (heading !== null && !heading.hasAttribute("tabindex")) heading.tabIndex = -1;
  return heading;
}

/** Starts to keep the focus below `root`, for as long as the page exists. */
export function keepFocus(root: HTMLElement): void {
  /** The element that has the focus by keyboard, and its ancestors. */
  let focused: readonly Element[] = [];
  root.addEventListener("focusin", ({ target }) => {
    focused = [];
    if (!(target instanceof Element) || !target.matches(":focus-visible")) return;
    const path: Element[] = [];
    for (let element: Element | null = target; element !== null && element !== root; element = element.parentElement) path.push(element);
    focused = path;
  });
  // A person who clicks elsewhere, or tabs to the browser's own controls, means to leave the element.
  document.addEventListener("pointerdown", () => (focused = []), { capture: true });
  document.addEventListener("keydown", ({ key, defaultPrevented }) => {
    if (key === "Tab" && !defaultPrevented) focused = [];
  });
  new MutationObserver((changes) => {
    const [element, ...ancestors] = focused;
    if (element === undefined) return;
    const holder = document.activeElement;
    const is_lost = holder === null || holder === document.body || !holder.isConnected;
    // The browser takes the focus from a hidden element only when it draws the page.
    const may_be_hidden = holder === element && changes.some(({ type, target }) => type === "attributes" && target.contains(element));
    if (!is_lost && !may_be_hidden) return;
    // An element that only moved loses the focus as well. One that is disabled gets it back when it is enabled.
    if (!isShown(element)) closestPlace(ancestors)?.focus();
    else if (is_lost && isUsable(element)) element.focus();
  }).observe(root, { subtree: true, childList: true, attributeFilter: ["disabled", "hidden", "class", "open"] });
}

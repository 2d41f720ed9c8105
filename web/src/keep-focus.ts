// Keeps the place of a person who uses the keyboard. When a page removes or disables the element with the focus, the browser puts the
// focus on nothing: the person and the screen reader are at no place of the page.

const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";

function isUsable(element: Element): element is HTMLElement {
  return element instanceof HTMLElement && element.tabIndex >= 0 && !element.matches(":disabled") && element.checkVisibility();
}

/** The closest place to one that was removed: a control in the smallest part of the page that is left of its surroundings. */
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
  new MutationObserver(() => {
    const [element, ...ancestors] = focused;
    const holder = document.activeElement;
    if (element === undefined || (holder !== null && holder !== document.body && holder.isConnected)) return;
    // An element that only moved loses the focus as well. One that is disabled gets it back when it is enabled.
    if (!element.isConnected) closestPlace(ancestors)?.focus();
    else if (element instanceof HTMLElement && isUsable(element)) element.focus();
  }).observe(root, { subtree: true, childList: true, attributeFilter: ["disabled"] });
}

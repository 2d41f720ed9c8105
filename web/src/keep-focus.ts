// Keeps the place of a person who uses the keyboard. When a page removes, hides or disables the element with the focus, the browser puts
// the focus on nothing: the person and the screen reader are at no place of the page.

const isShown = (element: Element) => element.isConnected && element.checkVisibility({ checkVisibilityCSS: true });

/** Whether the keyboard can reach an element. */
const isUsable = (element: HTMLElement) => element.tabIndex >= 0 && !element.matches(":disabled") && isShown(element);

/** The closest place to one that was removed or hidden: a control in the smallest part of the page that is left of its surroundings. */
function closestPlace(ancestors: readonly HTMLElement[]): HTMLElement | null {
  for (const ancestor of ancestors) {
    if (!ancestor.isConnected) continue;
    if (ancestor.matches("main, body")) break;
    const place = [ancestor, ...ancestor.querySelectorAll<HTMLElement>("*")].find(isUsable);
    if (place !== undefined) return place;
  }
  const heading = document.querySelector<HTMLElement>("main h1");
  if (heading !== null) heading.tabIndex = -1;
  return heading;
}

/** Starts to keep the focus below `root`, for as long as the page exists. */
export function keepFocus(root: HTMLElement): void {
  /** The element that has the focus by keyboard, and its ancestors. */
  let focused: HTMLElement[] = [];
  const forget = () => (focused = []);
  root.addEventListener("focusin", ({ target }) => {
    forget();
    let element = target as HTMLElement | null;
    if (element?.matches(":focus-visible") !== true) return;
    for (; element !== null && element !== root; element = element.parentElement) focused.push(element);
  });
  // A person who clicks elsewhere, or tabs to the browser's own controls, means to leave the element.
  document.addEventListener("pointerdown", forget, { capture: true });
  document.addEventListener("keydown", ({ key, defaultPrevented }) => {
    if (key === "Tab" && !defaultPrevented) forget();
  });
  new MutationObserver(() => {
    const [element, ...ancestors] = focused;
    const holder = document.activeElement;
    const is_lost = holder === null || holder === document.body;
    if (element === undefined || !(is_lost || holder === element)) return;
    // An element that only moved loses the focus as well, one that is hidden when the page is drawn. One that is disabled gets it back when
    // it is enabled.
    if (!isShown(element)) closestPlace(ancestors)?.focus();
    else if (is_lost && isUsable(element)) element.focus();
  }).observe(root, { subtree: true, childList: true, attributeFilter: ["disabled", "hidden", "class", "open"] });
}

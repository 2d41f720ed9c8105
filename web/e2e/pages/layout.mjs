// What is wrong with the layout of a page at the size of its window. It runs inside the page.

/** The smallest target of a pointer, CSS pixels (WCAG 2.5.8). */
const TARGET_PX_MIN = 24;

/**
 * Returns one sentence for each fault: a page that scrolls sideways, the first primary button below the first screen, a control that
 * another element covers, a target that is too small.
 * @param {import("playwright-core").Page} page @returns {Promise<string[]>}
 */
export function layoutFaults(page) {
  return page.evaluate((target_px_min) => {
    /** @type {string[]} */
    const faults = [];
    const outline = (/** @type {Element} */ element) => element.outerHTML.slice(0, 110);
    const lineOf = (/** @type {Element} */ target) => {
      const [line] = target.getClientRects();
      return line === undefined ? null : document.elementFromPoint(line.left + line.width / 2, line.top + line.height / 2);
    };
    window.scrollTo(0, 0);
    if (document.documentElement.scrollWidth > window.innerWidth) faults.push(`scrolls sideways: ${document.documentElement.scrollWidth} px`);
    const primary = [...document.querySelectorAll(".primary")].find((element) => element.checkVisibility() && !element.matches(":disabled"));
    const bottom = primary?.getBoundingClientRect().bottom ?? 0;
    if (primary !== undefined && bottom > window.innerHeight) faults.push(`below the first screen (${Math.round(bottom)} px): ${outline(primary)}`);
    for (const element of document.querySelectorAll("a[href], button, input, textarea, summary, [role=tab]")) {
      // The skip link appears with the focus; the fields for on-screen keyboards are not touched.
      if (!element.checkVisibility({ visibilityProperty: true }) || element.matches(".skip-link, .keyboard-input, .xterm textarea")) continue;
      // A label is a part of its field's target.
      const target = element.closest("label") ?? element;
      target.scrollIntoView({ block: "center", behavior: "instant" });
      const { left, top, width, height } = target.getBoundingClientRect();
      const is_in_text = getComputedStyle(element).display === "inline";
      if (!is_in_text && (width < target_px_min || height < target_px_min)) faults.push(`${Math.round(width)} × ${Math.round(height)} px: ${outline(element)}`);
      // The middle of a link that is broken over two lines can lie between them.
      const hit = is_in_text ? lineOf(target) : document.elementFromPoint(left + width / 2, top + height / 2);
      if (hit === null || !target.contains(hit)) faults.push(`covered by ${hit === null ? "nothing in the window" : outline(hit)}: ${outline(element)}`);
    }
    window.scrollTo(0, 0);
    return faults;
  }, TARGET_PX_MIN);
}

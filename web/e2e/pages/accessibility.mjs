// Accessibility checks that run inside the page. They return one sentence for each fault.

/** Faults in names, labels, headings, landmarks and overflow. @param {import("playwright-core").Page} page @returns {Promise<string[]>} */
export async function accessibilityFaults(page) {
  // A page that is being laid out may be wider for a moment.
  const fits = () => document.documentElement.scrollWidth <= document.documentElement.clientWidth;
  await page.waitForFunction(fits, undefined, { timeout: 2_000 }).catch(() => undefined);
  return page.evaluate(() => {
    /** @type {string[]} */
    const faults = [];
    const shown = (/** @type {Element} */ element) => element.checkVisibility({ checkOpacity: false, checkVisibilityCSS: true });
    const outline = (/** @type {Element} */ element) => element.outerHTML.slice(0, 90);
    const nameOf = (/** @type {Element} */ element) => {
      const labelled_by = (element.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => document.getElementById(id)?.textContent ?? "");
      const labels = element instanceof HTMLInputElement || element instanceof HTMLTextAreaElement ? [...(element.labels ?? [])] : [];
      const text = element.getAttribute("aria-label") ?? (labelled_by.join("").trim() || labels.map((label) => label.textContent).join(""));
      return (text || (element.matches("input, textarea") ? "" : (element.textContent ?? ""))).trim();
    };
    for (const element of document.querySelectorAll("button, a[href], input, textarea, select, [role=tab], [role=application], summary")) {
      if (shown(element) && nameOf(element) === "") faults.push(`no name: ${outline(element)}`);
    }
    for (const image of document.querySelectorAll("img:not([alt]), svg:not([aria-hidden]):not([role])")) {
      if (image.closest("[aria-hidden]") === null) faults.push(`no text: ${outline(image)}`);
    }
    const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
    for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push(`duplicate id: ${id}`);
    for (const attribute of ["aria-labelledby", "aria-describedby", "aria-controls", "for"]) {
      for (const element of document.querySelectorAll(`[${attribute}]`)) {
        for (const id of (element.getAttribute(attribute) ?? "").split(" ")) {
          if (document.getElementById(id) === null) faults.push(`${attribute} refers to a missing id: ${id}`);
        }
      }
    }
    if (document.documentElement.lang === "") faults.push("no language");
    if (document.querySelectorAll("main").length !== 1) faults.push("not one main landmark");
    if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
    let level = 0;
    for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
      const next = Number(heading.tagName[1]);
      if (next > level + 1) faults.push(`heading level skipped: ${outline(heading)}`);
      level = next;
    }
    if (document.documentElement.scrollWidth > document.documentElement.clientWidth) faults.push("the page is wider than its window");
    return faults;
  });
}

/** Texts whose contrast with their background is too low (WCAG 1.4.3). @param {import("playwright-core").Page} page */
export function lowContrastTexts(page) {
  return page.evaluate(() => {
    /** @type {string[]} */
    const faults = [];
    const components = (/** @type {string} */ colour) => (colour.match(/[\d.]+/g) ?? []).map(Number);
    const luminance = (/** @type {number[]} */ colour) => {
      const [r = 0, g = 0, b = 0] = colour.slice(0, 3).map((value) => {
        const part = value / 255;
        return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const background = (/** @type {Element | null} */ element) => {
      for (let at = element; at !== null; at = at.parentElement) {
        const colour = components(getComputedStyle(at).backgroundColor);
        if (colour.length === 3 || (colour[3] ?? 0) > 0.8) return colour;
      }
      return [255, 255, 255];
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode.textContent?.trim() ?? "";
      const element = walker.currentNode.parentElement;
      if (text === "" || element === null || !element.checkVisibility() || element.closest(":disabled, .visually-hidden, .xterm, noscript, .skip-link")) continue;
      const style = getComputedStyle(element);
      const [one, other] = [luminance(components(style.color)), luminance(background(element))].sort((a, b) => b - a);
      const ratio = ((one ?? 0) + 0.05) / ((other ?? 0) + 0.05);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      if (ratio < (large ? 3 : 4.5)) faults.push(`${ratio.toFixed(2)}: ${text.slice(0, 40)} (${style.color})`);
    }
    return faults;
  });
}

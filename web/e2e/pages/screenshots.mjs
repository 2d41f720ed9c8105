// Checks that run inside the page: names, labels, headings, contrast, overflow. What they find comes back as sentences.

/** @param {import("playwright-core").Page} page @returns {Promise<string[]>} */
export function inaccessible(page) {
  return page.evaluate(() => {
    /** @type {string[]} */
    const found = [];
    const shown = (/** @type {Element} */ element) => element.checkVisibility({ checkOpacity: false, checkVisibilityCSS: true });
    const told = (/** @type {Element} */ element) => element.outerHTML.slice(0, 90);
    const nameOf = (/** @type {Element} */ element) => {
      const by = (element.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => document.getElementById(id)?.textContent ?? "");
      const labels = element instanceof HTMLInputElement || element instanceof HTMLTextAreaElement ? [...(element.labels ?? [])] : [];
      const text = element.getAttribute("aria-label") ?? (by.join("").trim() || labels.map((label) => label.textContent).join(""));
      return (text || (element.matches("input, textarea") ? "" : (element.textContent ?? ""))).trim();
    };
    for (const element of document.querySelectorAll("button, a[href], input, textarea, select, [role=tab], [role=application], summary")) {
      if (shown(element) && nameOf(element) === "") found.push(`no name: ${told(element)}`);
    }
    for (const image of document.querySelectorAll("img:not([alt]), svg:not([aria-hidden]):not([role])")) {
      if (image.closest("[aria-hidden]") === null) found.push(`no text: ${told(image)}`);
    }
    const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
    for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) found.push(`id twice: ${id}`);
    for (const attribute of ["aria-labelledby", "aria-describedby", "aria-controls", "for"]) {
      for (const element of document.querySelectorAll(`[${attribute}]`)) {
        for (const id of (element.getAttribute(attribute) ?? "").split(" ")) {
          if (document.getElementById(id) === null) found.push(`${attribute} leads nowhere: ${id}`);
        }
      }
    }
    if (document.documentElement.lang === "") found.push("no language");
    if (document.querySelectorAll("main").length !== 1) found.push("not one main landmark");
    if (document.querySelectorAll("h1").length !== 1) found.push("not one h1");
    let level = 0;
    for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
      const next = Number(heading.tagName[1]);
      if (next > level + 1) found.push(`heading level skipped: ${told(heading)}`);
      level = next;
    }
    if (document.documentElement.scrollWidth > document.documentElement.clientWidth) found.push("the page is wider than its window");
    return found;
  });
}

/** Texts whose contrast with what is behind them is too low (WCAG 1.4.3). @param {import("playwright-core").Page} page */
export function faint(page) {
  return page.evaluate(() => {
    /** @type {string[]} */
    const found = [];
    const numbers = (/** @type {string} */ colour) => (colour.match(/[\d.]+/g) ?? []).map(Number);
    const light = (/** @type {number[]} */ colour) => {
      const [r = 0, g = 0, b = 0] = colour.slice(0, 3).map((value) => {
        const part = value / 255;
        return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (/** @type {Element | null} */ element) => {
      for (let at = element; at !== null; at = at.parentElement) {
        const colour = numbers(getComputedStyle(at).backgroundColor);
        if (colour.length === 3 || (colour[3] ?? 0) > 0.8) return colour;
      }
      return [255, 255, 255];
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode.textContent?.trim() ?? "";
      const element = walker.currentNode.parentElement;
      if (text === "" || element === null || !element.checkVisibility() || element.closest(":disabled, .off-screen, .xterm, noscript, .skip")) continue;
      const style = getComputedStyle(element);
      const [one, other] = [light(numbers(style.color)), light(behind(element))].sort((a, b) => b - a);
      const ratio = ((one ?? 0) + 0.05) / ((other ?? 0) + 0.05);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)}: ${text.slice(0, 40)} (${style.color})`);
    }
    return found;
  });
}

// Debian's Chromium through Playwright, in a temporary profile, and what the tests ask a page.

import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** The browser; close it when done. */
export function launch() {
  return chromium.launch({
    executablePath: process.env["ANTEROOM_E2E_CHROMIUM"] ?? "/usr/bin/chromium",
    headless: true,
    args: FLAGS,
  });
}

/**
 * How many different colours the desktop's canvas shows (up to 64). A blank one has none or one.
 * @param {import("playwright-core").Page} page
 * @returns {Promise<number>}
 */
export function coloursOnDesktop(page) {
  return page.evaluate(() => {
    const canvas = document.querySelector(".desktop-host canvas:not(.ghost)");
    if (!(canvas instanceof HTMLCanvasElement) || canvas.width === 0 || canvas.height === 0) return 0;
    const data = canvas.getContext("2d")?.getImageData(0, 0, canvas.width, canvas.height).data;
    const colours = new Set();
    for (let at = 0; data !== undefined && at < data.length && colours.size < 64; at += 4 * 7) {
      colours.add(((data[at] ?? 0) << 16) | ((data[at + 1] ?? 0) << 8) | (data[at + 2] ?? 0));
    }
    return colours.size;
  });
}

/**
 * Waits until `ask` gives something that is not false, null, undefined, 0 or "": on a state, never on time alone.
 * @template T
 * @param {string} what for the error
 * @param {() => Promise<T> | T} ask
 * @param {number} [ms_max]
 * @param {number} [pause_ms] between two questions
 * @returns {Promise<NonNullable<T>>}
 */
export async function until(what, ask, ms_max = 20_000, pause_ms = 100) {
  const end = Date.now() + ms_max;
  for (;;) {
    const got = await ask();
    if (got) return got;
    if (Date.now() > end) throw new Error(`not within ${ms_max} ms: ${what}`);
    await new Promise((done) => setTimeout(done, pause_ms));
  }
}

// Debian's Chromium through Playwright, in a profile of its own that is gone afterwards.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/**
 * Runs `use` with a fresh browser context.
 * @template T
 * @param {import("playwright-core").BrowserContextOptions} options
 * @param {(context: import("playwright-core").BrowserContext) => Promise<T>} use
 * @returns {Promise<T>}
 */
export async function withBrowser(options, use) {
  const profile = await mkdtemp(join(tmpdir(), "anteroom-e2e-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env["ANTEROOM_E2E_CHROMIUM"] ?? "/usr/bin/chromium",
    headless: true,
    args: FLAGS,
    ...options,
  });
  try {
    return await use(context);
  } finally {
    await context.close();
    await rm(profile, { recursive: true, force: true });
  }
}

/**
 * How many different colours a page's canvas shows (up to 64; a blank one has one or none).
 * @param {import("playwright-core").Page} page
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
 * Waits until `ask` gives a value that is not false, null or undefined; the wait is on a state, never on time alone.
 * @template T
 * @param {string} what for the error
 * @param {() => Promise<T> | T} ask
 * @param {number} [ms_max]
 * @returns {Promise<NonNullable<T>>}
 */
export async function until(what, ask, ms_max = 15_000) {
  const end = Date.now() + ms_max;
  for (;;) {
    const got = await ask();
    if (got) return got;
    if (Date.now() > end) throw new Error(`not within ${ms_max} ms: ${what}`);
    await new Promise((done) => setTimeout(done, 100));
  }
}

// Starts Debian's Chromium with Playwright, in a temporary profile; helpers that read a page.

import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Chromium, with and without a window. */
export const CHROMIUM = process.env["ANTEROOM_E2E_CHROMIUM"] ?? "/usr/bin/chromium";

/** Chromium that has no windows, which needs less than half the processor time; Chromium where it is not installed. */
const SHELL = "/usr/bin/chromium-headless-shell";
export const HEADLESS_SHELL = process.env["ANTEROOM_E2E_CHROMIUM"] === undefined && existsSync(SHELL) ? SHELL : CHROMIUM;

/** Starts a browser without a window. The caller must close it. @param {string} [executablePath] @param {string[]} [more_flags] */
export function launch(executablePath = HEADLESS_SHELL, more_flags = []) {
  return chromium.launch({ executablePath, headless: true, args: [...FLAGS, ...more_flags] });
}

/**
 * Requests a path of the API as the page does: only the page has the key of its browser.
 * @param {import("playwright-core").Page} page
 * @param {string} path
 * @returns {Promise<unknown>}
 */
export function getAsPage(page, path) {
  return page.evaluate(async (requested) => {
    const response = await fetch(requested, { headers: { "X-Anteroom": localStorage.getItem("browser_key") ?? "1" } });
    if (!response.ok) throw new Error(`${requested}: ${response.status} ${await response.text()}`);
    return response.json();
  }, path);
}

/**
 * Counts the different colours on the desktop's canvas, up to 64. A blank canvas has none or one.
 * @param {import("playwright-core").Page} page
 * @returns {Promise<number>}
 */
export function coloursOnDesktop(page) {
  return page.evaluate(() => {
    const canvas = document.querySelector(".desktop-host canvas:not(.last-frame)");
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
 * Moves the keyboard's focus until it is on an element.
 * @param {import("playwright-core").Page} page
 * @param {string} selector of the element
 * @param {"Tab" | "Shift+Tab"} [key]
 */
export async function tabTo(page, selector, key = "Tab") {
  for (let presses = 0; presses < 60; presses += 1) {
    await page.keyboard.press(key);
    if (await page.evaluate((wanted) => document.activeElement?.matches(wanted) ?? false, selector)) return;
  }
  throw new Error(`${key} does not lead to ${selector}`);
}

/**
 * Polls `read` until it returns a truthy value, and returns that.
 * @template T
 * @param {string} name of the condition, for the error
 * @param {() => Promise<T> | T} read
 * @param {number} [timeout_ms]
 * @param {number} [interval_ms]
 * @returns {Promise<NonNullable<T>>}
 */
export async function waitUntil(name, read, timeout_ms = 20_000, interval_ms = 100) {
  const end_ms = Date.now() + timeout_ms;
  for (;;) {
    const value = await read();
    if (value) return value;
    if (Date.now() > end_ms) throw new Error(`not within ${timeout_ms} ms: ${name}`);
    await new Promise((done) => setTimeout(done, interval_ms));
  }
}

/** Opens the tab of the remote browser on a session's page, unless it is open. @param {import("playwright-core").Page} page */
export async function openDesktopTab(page) {
  const tab = page.locator("#tab-desktop");
  await tab.waitFor();
  if ((await tab.getAttribute("aria-selected")) !== "true") await tab.click();
}

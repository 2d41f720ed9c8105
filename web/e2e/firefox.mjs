// Starts Debian's Firefox with Puppeteer, over WebDriver BiDi, and runs tests on its pages. Playwright drives only a Firefox of its own
// build, or one whose WebDriver BiDi is newer than that of Firefox ESR.

import assert from "node:assert/strict";
import puppeteer from "puppeteer-core";
import { axeViolations } from "./pages/axe.mjs";
import { FakeServer } from "./fake-server/server.mjs";
import { startLine } from "./line.mjs";

/** The timeout of one wait of Puppeteer. */
const WAIT_MS_MAX = 20_000;
const WINDOW = { width: 1280, height: 800 };

/** A mouse and a touch screen, as Firefox's settings name them: coarse 1, fine 2, hover 4. */
const MOUSE_AND_TOUCH = { "ui.allPointerCapabilities": 7, "dom.w3c_touch_events.enabled": 1 };

/** Starts the browser. The caller must close it. @param {{ has_touch?: boolean }} [options] */
export function launchFirefox({ has_touch = false } = {}) {
  return puppeteer.launch({
    browser: "firefox",
    executablePath: process.env["ANTEROOM_E2E_FIREFOX"] ?? "/usr/bin/firefox-esr",
    headless: true,
    extraPrefsFirefox: has_touch ? MOUSE_AND_TOUCH : {},
  });
}

/**
 * The page as Playwright's type, for helpers that only call `goto`, `evaluate`, `url` or `keyboard.press`, which both have.
 * @param {import("puppeteer-core").Page} page
 * @returns {import("playwright-core").Page}
 */
export function asPlaywright(page) {
  return /** @type {import("playwright-core").Page} */ (/** @type {unknown} */ (page));
}

/**
 * @typedef {object} FirefoxScene
 * @property {import("puppeteer-core").Page} page
 * @property {FakeServer} fakeServer
 * @property {string} base the server's origin
 * @property {(is_offline: boolean) => Promise<unknown>} setOffline takes the network from the page, which BiDi of Firefox ESR cannot
 */

/**
 * Runs a test on one page of a fake server, in a profile of its own. Afterwards it checks that the page had no errors and no violations
 * of its Content-Security-Policy, that axe-core finds none, and that the page stored no secret.
 * @param {import("puppeteer-core").Browser} browser
 * @param {(scene: FirefoxScene) => Promise<void>} run
 */
export async function runFirefoxScene(browser, run) {
  const fakeServer = new FakeServer();
  const line = await startLine(await fakeServer.listen());
  const context = await browser.createBrowserContext();
  try {
    const page = await context.newPage();
    page.setDefaultTimeout(WAIT_MS_MAX);
    await page.setViewport(WINDOW);
    /** @type {string[]} */
    const page_errors = [];
    page.on("pageerror", (error) => page_errors.push(`page error: ${error instanceof Error ? error.message : String(error)}`));
    page.on("console", (message) => {
      if (message.type() === "error") page_errors.push(`console error: ${message.text()}`);
    });
    await page.evaluateOnNewDocument(() => {
      document.addEventListener("securitypolicyviolation", (event) =>
        console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`),
      );
    });
    await run({ page, fakeServer, base: line.base, setOffline: (is_offline) => (is_offline ? line.cut() : line.restore()) });
    assert.deepEqual(await axeViolations(asPlaywright(page)), [], "axe-core at the end");
    assert.deepEqual(page_errors, []);
    const stored = await page.evaluate(() => [Object.keys(localStorage).join(), sessionStorage.length, document.cookie]);
    assert.deepEqual(stored, ["browser_key", 0, ""], "the page stores only its key, and scripts cannot read the cookie");
  } finally {
    await context.close();
    await line.close();
    await fakeServer.close();
  }
}

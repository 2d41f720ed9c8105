// Runs a test on one page of a fake server. Afterwards it checks that the page had no errors and no violations of its
// Content-Security-Policy, and that it left no secret in its address or storage.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after } from "node:test";
import { coloursOnDesktop, launch, openDesktopTab, waitUntil } from "../browser.mjs";
import { resultsDirectory } from "../results.mjs";
import { axeViolations } from "./axe.mjs";
import { FakeServer } from "../fake-server/server.mjs";

/** The timeout of one wait of Playwright. */
const WAIT_MS_MAX = 20_000;

export const WIDE = { width: 1360, height: 860 };
export const PHONE = { width: 360, height: 740 };

/** The browser of all scenes of this process. @type {Promise<import("playwright-core").Browser> | undefined} */
let started;

/** Starts the browser, unless it runs. */
async function sharedBrowser() {
  if (!(await started)?.isConnected()) started = launch();
  return /** @type {import("playwright-core").Browser} */ (await started);
}

/** Closes the browser of the scenes. The test runner does it after the last test; other programs must call it. */
export async function closeBrowser() {
  await (await started)?.close();
  started = undefined;
}
after(closeBrowser);

/**
 * @typedef {object} Scene
 * @property {import("playwright-core").Page} page
 * @property {FakeServer} fakeServer
 * @property {string} base the server's origin
 * @property {string[]} sockets the URLs of the WebSockets that the page opened
 * @property {(is_offline: boolean) => Promise<unknown>} setOffline takes the network from the page
 * @property {(name: string) => Promise<void>} shoot takes a screenshot of the whole page, and checks the page with axe-core
 */

/**
 * Runs a scene in a browser context of its own: the scenes of a file share the browser and its clipboard, and nothing else.
 * @param {import("playwright-core").BrowserContextOptions & { tls?: { key: string, cert: string }, expected_error?: RegExp }} options
 *   `expected_error`: an error that the page may log
 * @param {(scene: Scene) => Promise<void>} run
 */
export async function runScene(options, run) {
  const { tls, expected_error, ...context_options } = options;
  const fakeServer = new FakeServer();
  const base = await fakeServer.listen(tls);
  const context = await (await sharedBrowser()).newContext({ viewport: WIDE, ...context_options });
  try {
    const page = await context.newPage();
    page.setDefaultTimeout(WAIT_MS_MAX);
    /** @type {string[]} */
    const page_errors = [];
    /** @type {string[]} */
    const sockets = [];
    page.on("pageerror", (error) => page_errors.push(`page error: ${error.message}`));
    page.on("websocket", (socket) => sockets.push(socket.url()));
    page.on("console", (message) => {
      const text = message.text();
      // The browser logs each failed request; the tests check the expected ones.
      if (text.startsWith("Failed to load resource") || text.endsWith("net::ERR_INTERNET_DISCONNECTED")) return;
      if (expected_error?.test(text)) return;
      if (message.type() === "error" || /token|ticket\./i.test(text)) page_errors.push(`console ${message.type()}: ${text}`);
    });
    await page.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) =>
        console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`),
      );
    });
    const shots = await resultsDirectory("screenshots");
    /** The document that axe-core checked last: it is not checked twice. */
    let checked = "";
    const check = async (/** @type {string} */ message) => {
      const shown = await page.content();
      if (shown === checked) return;
      assert.deepEqual(await axeViolations(page), [], message);
      checked = shown;
    };
    const shoot = async (/** @type {string} */ name) => {
      await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
      await check(`axe-core on ${name}`);
    };
    const setOffline = async (/** @type {boolean} */ is_offline) => {
      await context.setOffline(is_offline);
      // Streams that are open stay so in a browser that is offline.
      if (is_offline) fakeServer.breakStreams();
    };
    await run({ page, fakeServer, base, sockets, setOffline, shoot });
    await check("axe-core at the end");
    assert.deepEqual(page_errors, []);
    const stored = await page.evaluate(() => [
      Object.keys(localStorage).join(),
      sessionStorage.length,
      document.cookie.replace(/^anteroom_language=(en|de)$/, ""),
    ]);
    // A page that requested nothing has no key yet.
    assert.deepEqual(stored, [stored[0] === "" ? "" : "browser_key", 0, ""], "the page stores only its key and its language, and scripts cannot read the cookie of the login");
    assert.ok(!/login_token=|ticket=/.test(page.url()), "no secret in the address");
  } finally {
    await context.close();
    await fakeServer.close();
  }
}

/**
 * Adds a session and opens its page. Returns the session's id.
 * @param {Scene} scene
 * @param {Partial<import("../fake-server/samples.mjs").Session>} [part]
 */
export async function openSession({ page, fakeServer, base }, part = {}) {
  const session = fakeServer.add({ status: "authenticating", ...part });
  await page.goto(`${base}/dashboard/remote-cli/auth?session=${session.id}&provider=${session.provider}`);
  return session.id;
}

/** Waits until the desktop shows a live picture. @param {import("playwright-core").Page} page */
export async function desktopShows(page) {
  await waitUntil("a picture on the desktop", async () => {
    const overlays = await page.evaluate(() => document.querySelectorAll("#panel-desktop .overlay, .desktop-page .overlay").length);
    return overlays === 0 && (await coloursOnDesktop(page)) > 10;
  });
}

/** Opens the tab of the remote browser and waits until it shows a live picture. @param {import("playwright-core").Page} page */
export async function openDesktop(page) {
  await openDesktopTab(page);
  await desktopShows(page);
}

/** Waits until the page shows what to do next. @param {import("playwright-core").Page} page */
export async function sessionShows(page) {
  await page.waitForSelector(".next-action");
}

/** Waits for the page's status. @param {import("playwright-core").Page} page @param {string} status */
export async function statusIs(page, status) {
  await page.waitForSelector(`main[data-status="${status}"]`);
}

// A stand-in server and one page on it. At the end: nothing broke on the page, nothing was stopped by its policy, no
// pass was left in an address, and nothing is left running.

import assert from "node:assert/strict";
import { join } from "node:path";
import { coloursOnDesktop, launch, until } from "../browser.mjs";
import { resultsOf } from "../results.mjs";
import { Standin } from "../fake-server/server.mjs";

/** How long one wait inside a page may take. */
const WAIT_MS_MAX = 20_000;

export const WIDE = { width: 1360, height: 860 };
export const PHONE = { width: 360, height: 740 };

/**
 * @typedef {object} Stage
 * @property {import("playwright-core").Page} page
 * @property {Standin} fakeServer
 * @property {string} base the server's origin
 * @property {string[]} sockets addresses of the WebSockets the page opened
 * @property {(name: string) => Promise<void>} shoot takes a screenshot of the whole page
 */

/**
 * @param {import("playwright-core").BrowserContextOptions & { tls?: { key: string, cert: string } }} options
 * @param {(stage: Stage) => Promise<void>} play
 */
export async function scene(options, play) {
  const { tls, ...context_options } = options;
  const fakeServer = new Standin();
  const base = await fakeServer.listen(tls);
  const browser = await launch();
  try {
    const context = await browser.newContext({ viewport: WIDE, ...context_options });
    const page = await context.newPage();
    page.setDefaultTimeout(WAIT_MS_MAX);
    /** @type {string[]} */
    const faults = [];
    /** @type {string[]} */
    const sockets = [];
    page.on("pageerror", (error) => faults.push(`page error: ${error.message}`));
    page.on("websocket", (socket) => sockets.push(socket.url()));
    page.on("console", (message) => {
      const text = message.text();
      // The browser's own note of a refused request; the tests say which ones they expect.
      if (text.startsWith("Failed to load resource")) return;
      if (message.type() === "error" || /pass|ticket\./i.test(text)) faults.push(`console ${message.type()}: ${text}`);
    });
    await page.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) =>
        console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`),
      );
    });
    const shots = await resultsOf("screenshots");
    const shoot = async (/** @type {string} */ name) => {
      await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
    };
    await play({ page, fakeServer, base, sockets, shoot });
    assert.deepEqual(faults, []);
    const stored = await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie]);
    assert.deepEqual(stored, [0, 0, ""], "the page keeps nothing, and its cookie is not for scripts");
    assert.ok(!/login_token=|ticket=/.test(page.url()), "no secret in the address");
  } finally {
    await browser.close();
    await fakeServer.close();
  }
}

/**
 * The page of one session.
 * @param {Stage} stage
 * @param {Partial<import("../fake-server/samples.mjs").Session>} [part]
 */
export async function openSession({ page, fakeServer, base }, part = {}) {
  const session = fakeServer.add({ status: "authenticating", ...part });
  await page.goto(`${base}/dashboard/remote-cli/auth?session=${session.id}&provider=${session.provider}`);
  return session.id;
}

/** Waits until the desktop shows a picture that is live. @param {import("playwright-core").Page} page */
export async function desktopShows(page) {
  await until("a picture on the desktop", async () => {
    const veiled = await page.locator("#panel-desktop .veil, .bare-main .veil").count();
    return veiled === 0 && (await coloursOnDesktop(page)) > 10;
  });
}

/** Waits for the page's status. @param {import("playwright-core").Page} page @param {string} status */
export async function statusIs(page, status) {
  await page.waitForSelector(`main[data-status="${status}"]`);
}

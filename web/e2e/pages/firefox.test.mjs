// The person's pages in Firefox: the remote browser on a real desktop, the terminal, reconnecting, the states at each size.

import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import { coloursOnDesktop, waitUntil } from "../browser.mjs";
import { asPlaywright, launchFirefox, runFirefoxScene } from "../firefox.mjs";
import { startVncDesktop } from "../vnc-desktop.mjs";
import { layoutFaults } from "./layout.mjs";
import { SIGN_IN_STATES } from "./sign-in-states.mjs";
import { SIZES } from "./sizes.mjs";

/** @typedef {import("../firefox.mjs").FirefoxScene} FirefoxScene */

const CANVAS = ".desktop-host canvas:not(.last-frame)";
/** Forty characters, and characters that keyboard layouts lack. */
const TEXTS = ["7hQ#v!2x&Lp9^Rw*4Zt(8Kd)_Gm+3Nb=5Yc?1Fs;", "é@{}[]|~€漢😀"];

/** @type {import("puppeteer-core").Browser} */
let browser;
before(async () => {
  browser = await launchFirefox();
});
after(() => browser.close());

/** Waits for a live picture on the desktop. @param {FirefoxScene} scene */
async function desktopShows({ page }) {
  await waitUntil("a picture on the desktop", async () => {
    const overlays = await page.$$("#panel-desktop .overlay");
    return overlays.length === 0 && (await coloursOnDesktop(asPlaywright(page))) > 10;
  });
}

/** Adds a session and opens its page. @param {FirefoxScene} scene @param {Partial<import("../fake-server/samples.mjs").Session>} [part] */
async function openSession({ page, fakeServer, base }, part = {}) {
  const session = fakeServer.add({ status: "authenticating", ...part });
  await page.goto(`${base}/dashboard/remote-cli/auth?session=${session.id}&provider=${session.provider}`);
  return session.id;
}

/** @param {import("puppeteer-core").Page} page @param {string} selector */
async function textOf(page, selector) {
  return (await page.$eval(selector, (element) => element.textContent)) ?? "";
}

/** The text that a paste puts into a field of this page's own. @param {import("puppeteer-core").Page} page */
async function pastedText(page) {
  await page.click("#type-text");
  await chord(page, "a");
  await chord(page, "v");
  return page.$eval("#type-text", (field) => /** @type {HTMLInputElement} */ (field).value);
}

/** Whether the page has put this text of the machine into the clipboard; the panel is open. @param {FirefoxScene} scene @param {string} text */
async function isCopied({ page }, text) {
  const shown = await page.$$eval("#copied-text", (fields) => /** @type {HTMLTextAreaElement | undefined} */ (fields[0])?.value);
  return shown === text && (await textOf(page, "#desktop-tools")).includes("Copied to your clipboard.");
}

/**
 * Selects and copies all in the machine, again if the text comes when Firefox lets the page write the clipboard no more (5 s after input).
 * @param {FirefoxScene} scene @param {string} text
 */
async function copyAll(scene, text) {
  const copied = async () => {
    if (await isCopied(scene, text)) return true;
    await chord(scene.page, "a");
    await chord(scene.page, "c");
    return false;
  };
  await waitUntil("the copied text", copied, 20_000, 500);
}

/** Presses Control and a key. @param {import("puppeteer-core").Page} page @param {import("puppeteer-core").KeyInput} key */
async function chord(page, key) {
  await page.keyboard.down("Control");
  await page.keyboard.press(key);
  await page.keyboard.up("Control");
}

test("Firefox: texts arrive exactly in a field of the remote browser, and the clipboard goes both ways", async () => {
  const desktop = await startVncDesktop();
  const field = desktop.page.locator("textarea");
  try {
    await runFirefoxScene(browser, async (scene) => {
      const { page, fakeServer } = scene;
      fakeServer.connectDesktop = desktop.connectRfb;
      await openSession(scene, { lanes: ["desktop"] });
      await desktopShows(scene);
      await page.click(CANVAS);
      await waitUntil("the focus in the remote field", () => desktop.page.evaluate(() => document.activeElement?.tagName === "TEXTAREA"));
      await page.click("[aria-controls=clipboard-panel]");
      for (const text of TEXTS) {
        await field.fill("");
        await page.locator("#type-text").fill(text);
        await page.click(".type-box button[type=submit]");
        await waitUntil(`as many characters as in ${text}`, async () => [...(await field.inputValue())].length >= [...text].length);
        assert.equal(await field.inputValue(), text, "from the type box");
        await page.click(CANVAS);
        await field.fill(`copied: ${text}`);
        await copyAll(scene, `copied: ${text}`);
        assert.equal(await pastedText(page), `copied: ${text}`);
        await field.fill("");
        await page.click(CANVAS);
        await chord(page, "v");
        await waitUntil("the pasted text", async () => (await field.inputValue()) !== "");
        assert.equal(await field.inputValue(), `copied: ${text}`, "from the clipboard");
      }
      await field.fill("");
      await page.click(CANVAS);
      await page.keyboard.type("éa@Ž漢");
      await waitUntil("the text of the keyboard", async () => (await field.inputValue()) === "éa@Ž漢");
    });
  } finally {
    await desktop.close();
  }
});

test("Firefox: a text that the machine copies without input is only in the panel", async () => {
  await runFirefoxScene(browser, async (scene) => {
    const { page, fakeServer } = scene;
    await openSession(scene, { lanes: ["desktop"] });
    await desktopShows(scene);
    fakeServer.desktop()?.copy("unasked");
    await page.waitForSelector("::-p-text(A text was copied in the machine.)");
    await page.click("[aria-controls=clipboard-panel]");
    assert.equal(await page.$eval("#copied-text", (field) => /** @type {HTMLTextAreaElement} */ (field).value), "unasked");
    assert.notEqual(await pastedText(page), "unasked");
    await page.locator("#clipboard-text").fill("into the machine");
    await page.click("#clipboard-panel button[type=submit]");
    await waitUntil("the text", () => fakeServer.desktop()?.cut_texts.includes("into the machine"));
  });
});

test("Firefox: the terminal takes keys, and the desktop reconnects after its socket is dropped", async () => {
  await runFirefoxScene(browser, async (scene) => {
    const { page, fakeServer } = scene;
    await openSession(scene, { lanes: ["desktop", "terminal"] });
    await desktopShows(scene);
    await page.click("#tab-terminal");
    await page.waitForSelector(".xterm-rows ::-p-text(codex login)");
    await page.click(".terminal-host");
    await page.keyboard.type("ls é");
    await page.keyboard.press("Enter");
    await waitUntil("the line", () => fakeServer.terminal_input === "ls é\r");
    await page.click("#tab-desktop");
    await desktopShows(scene);
    const dropped = fakeServer.desktop();
    for (const viewer of fakeServer.viewers) viewer.socket.terminate();
    await waitUntil("another connection", () => fakeServer.desktop() !== null && fakeServer.desktop() !== dropped);
    await desktopShows(scene);
  });
});

for (const { size, width, height } of SIZES) {
  test(`Firefox, ${size}: no state scrolls sideways, hides its next action, covers a control or has a small target`, async () => {
    await runFirefoxScene(browser, async ({ page, fakeServer, base, setOffline }) => {
      await page.setViewport({ width, height });
      /** @type {Record<string, string[]>} */
      const faults = {};
      for (const [state, reach] of Object.entries(SIGN_IN_STATES)) {
        await reach({ page: asPlaywright(page), fakeServer, base, setOffline, sockets: [], shoot: async () => {} });
        faults[state] = await layoutFaults(asPlaywright(page));
      }
      assert.deepEqual(faults, Object.fromEntries(Object.keys(SIGN_IN_STATES).map((state) => [state, []])));
    });
  });
}

// Texts that go into a real browser on a real X server through the page, and come back from it.

import assert from "node:assert/strict";
import test from "node:test";
import { waitUntil } from "../browser.mjs";
import { startVncDesktop } from "../vnc-desktop.mjs";
import { desktopShows, openSession, runScene } from "./scene.mjs";

/** Xtigervnc alone has free keys for 19 characters that the layout lacks. */
const PASSWORDS = ["7hQ#v!2x&Lp9^Rw*4Zt(8Kd)_Gm+3Nb=5Yc?1Fs;", "é@{}[]|~€漢😀", "Zoë \\ \"quoted\" 'text' <&> ÖüßñŁжλ½"];

/**
 * Runs a test on a page that shows a real desktop.
 * @param {import("playwright-core").BrowserContextOptions} options
 * @param {(scene: import("./scene.mjs").Scene, field: import("playwright-core").Locator) => Promise<void>} run
 */
async function runOnRealDesktop(options, run) {
  const desktop = await startVncDesktop();
  try {
    await runScene(options, async (scene) => {
      scene.fakeServer.connectDesktop = desktop.connectRfb;
      await openSession(scene, { lanes: ["desktop"] });
      await desktopShows(scene.page);
      // The X server has no window manager: a click gives the field the focus.
      await scene.page.click(".desktop-host canvas");
      await waitUntil("the focus in the remote field", () => desktop.page.evaluate(() => document.activeElement?.tagName === "TEXTAREA"));
      await run(scene, desktop.page.locator("textarea"));
    });
  } finally {
    await desktop.close();
  }
}

test("texts with any characters arrive exactly in a field of the remote browser from the type box", async () => {
  await runOnRealDesktop({}, async ({ page, shoot }, field) => {
    for (const text of [...PASSWORDS, ..."éŁ日本"]) {
      await field.fill("");
      await page.fill("#type-text", text);
      await page.click(".type-box >> text=Type it");
      await waitUntil(`as many characters as in ${text}`, async () => [...(await field.inputValue())].length >= [...text].length);
      assert.equal(await field.inputValue(), text);
    }
    await shoot("real-desktop");
  });
});

test("characters that the machine's layout lacks arrive from a keyboard and from an on-screen keyboard", async () => {
  await runOnRealDesktop({ hasTouch: true }, async ({ page }, field) => {
    const session = await page.context().newCDPSession(page);
    for (const text of ["éab", "Žx", "öü漢"]) {
      await field.fill("");
      for (const key of text) {
        await session.send("Input.dispatchKeyEvent", { type: "keyDown", key, code: "KeyA", text: key });
        await session.send("Input.dispatchKeyEvent", { type: "keyUp", key, code: "KeyA" });
      }
      await waitUntil("the text of the keyboard", async () => (await field.inputValue()) === text);
    }
    await page.tap(".keys-bar >> text=Keyboard");
    for (const text of ["Ñandú", "ж", "😀"]) {
      await field.fill("");
      await page.keyboard.insertText(text);
      await waitUntil("the text of the on-screen keyboard", async () => (await field.inputValue()) === text);
    }
  });
});

test("the clipboard goes both ways with any characters", async () => {
  await runOnRealDesktop({ permissions: ["clipboard-read", "clipboard-write"] }, async ({ page }, field) => {
    for (const text of PASSWORDS) {
      await field.fill("");
      await page.evaluate((own) => navigator.clipboard.writeText(own), text);
      await page.click(".desktop-host canvas");
      await page.keyboard.press("Control+v");
      await waitUntil("the pasted text", async () => (await field.inputValue()) !== "");
      assert.equal(await field.inputValue(), text);
      await field.fill(`copied: ${text}`);
      await page.keyboard.press("Control+a");
      await page.keyboard.press("Control+c");
      await waitUntil("the copied text", () => page.evaluate(async (wanted) => (await navigator.clipboard.readText()) === wanted, `copied: ${text}`));
    }
  });
});

test("a text from the clipboard's form is pasted in the machine", async () => {
  await runOnRealDesktop({}, async ({ page }, field) => {
    await page.click(".desktop-tools >> text=Clipboard");
    await page.fill("#clipboard-text", "漢 two\nlines");
    await page.click("text=Put into the machine's clipboard");
    await page.click(".desktop-host canvas");
    await page.keyboard.press("Shift+Insert");
    await waitUntil("the pasted text", async () => (await field.inputValue()) === "漢 two\nlines");
  });
});

test("the desktop gets the size of its frame on request, and keeps it while the terminal is shown", async () => {
  await runOnRealDesktop({}, async ({ page }) => {
    const size = () => page.locator(".desktop-host canvas").evaluate((canvas) => [/** @type {HTMLCanvasElement} */ (canvas).width, /** @type {HTMLCanvasElement} */ (canvas).height]);
    assert.deepEqual(await size(), [800, 600]);
    await page.click("text=Resize to window");
    const frame = await page.locator(".focus-trap-frame").first().boundingBox();
    assert.ok(frame);
    const wanted = [Math.floor(frame.width), Math.floor(frame.height)];
    await waitUntil("the size of the frame", async () => String(await size()) === String(wanted));
    await page.click("#tab-terminal");
    await page.waitForSelector(".xterm-rows");
    await page.click("#tab-desktop");
    await page.setViewportSize({ width: 1100, height: 700 });
    await waitUntil("the size of the smaller frame", async () => {
      const smaller = await page.locator("#panel-desktop .focus-trap-frame").boundingBox();
      return smaller !== null && String(await size()) === String([Math.floor(smaller.width), Math.floor(smaller.height)]);
    });
  });
});

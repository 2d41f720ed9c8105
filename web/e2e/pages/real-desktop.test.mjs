// Texts that go into a real browser on a real X server through the page, and come back from it.

import assert from "node:assert/strict";
import test from "node:test";
import { waitUntil } from "../browser.mjs";
import { startVncDesktop } from "../vnc-desktop.mjs";
import { openDesktop, openSession, runScene } from "./scene.mjs";

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
      await openSession(scene, { lanes: ["desktop", "terminal"] });
      await openDesktop(scene.page);
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

/** The size of the desktop, its pixels. @param {import("playwright-core").Page} page */
function desktopSize(page) {
  return page.locator(".desktop-host canvas").evaluate((canvas) => [/** @type {HTMLCanvasElement} */ (canvas).width, /** @type {HTMLCanvasElement} */ (canvas).height]);
}

/**
 * Paints black and white lines, one pixel of the desktop wide, and counts the grey pixels of the screen among them.
 * @param {import("playwright-core").Page} page
 */
async function greyPixels(page) {
  const canvas = page.locator(".desktop-host canvas");
  await canvas.evaluate((element) => {
    const { width, height } = /** @type {HTMLCanvasElement} */ (element);
    const context = /** @type {HTMLCanvasElement} */ (element).getContext("2d");
    for (let x = 0; context && x < width; x += 1) {
      context.fillStyle = x % 2 === 0 ? "#000" : "#fff";
      context.fillRect(x, 0, 1, height);
    }
  });
  const box = await canvas.boundingBox();
  assert.ok(box);
  const clip = { x: Math.ceil(box.x) + 20, y: Math.ceil(box.y) + 20, width: 300, height: 100 };
  const image = (await page.screenshot({ clip, scale: "device" })).toString("base64");
  return page.evaluate(async (png) => {
    const picture = new Image();
    picture.src = `data:image/png;base64,${png}`;
    await picture.decode();
    const context = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
    context?.drawImage(picture, 0, 0);
    const data = context?.getImageData(0, 0, picture.width, picture.height).data ?? [];
    let count = 0;
    for (let at = 0; at < data.length; at += 4) if ((data[at] ?? 0) > 8 && (data[at] ?? 0) < 247) count += 1;
    return { count, width: picture.width };
  }, image);
}

for (const deviceScaleFactor of [2, 1.5]) {
  test(`on a screen with ${deviceScaleFactor} pixels for one, the desktop gets a pixel for each pixel of its frame on request`, async () => {
    await runOnRealDesktop({ deviceScaleFactor, viewport: { width: 1283, height: 801 } }, async ({ page, shoot }) => {
      await page.click("text=Resize to window");
      const frame = await page.locator(".focus-trap-frame").first().boundingBox();
      assert.ok(frame);
      await waitUntil("the size of the frame", async () => String(await desktopSize(page)) === String([Math.floor(frame.width), Math.floor(frame.height)]));
      await page.click("text=Sharpest picture");
      const wanted = [frame.width, frame.height].map((length) => Math.floor(length * deviceScaleFactor));
      await waitUntil("a pixel for each pixel", async () => String(await desktopSize(page)) === String(wanted));
      await shoot(`real-desktop-at-${deviceScaleFactor}`);
      assert.deepEqual(await greyPixels(page), { count: 0, width: 300 * deviceScaleFactor });
      await page.click("text=Sharpest picture");
      await waitUntil("the size of the frame", async () => (await desktopSize(page))[0] === Math.floor(frame.width));
    });
  });
}

test("the desktop gets the size of its frame on request, and keeps it while the terminal is shown", async () => {
  await runOnRealDesktop({}, async ({ page }) => {
    const size = () => desktopSize(page);
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

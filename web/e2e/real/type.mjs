// Types a text into a browser on an external desktop by the type box of the session's page, on a real server. From the environment:
//
//   ANTEROOM_E2E_VIEWER_LINK  the session's link (`viewer_url` of `POST /api/auth/start`)
//   ANTEROOM_E2E_DISPLAY      the X display of the desktop, on which this script opens a browser with one field
//   ANTEROOM_E2E_TEXT         the text
//   ANTEROOM_E2E_COPIED       a text that is copied in the machine afterwards
//   ANTEROOM_E2E_SLOW_MS      the longest wait, milliseconds

import assert from "node:assert/strict";
import test from "node:test";
import { CHROMIUM, launch, openDesktopTab, waitUntil } from "../browser.mjs";
import { openField } from "../vnc-desktop.mjs";

const LINK = process.env["ANTEROOM_E2E_VIEWER_LINK"] ?? "";
const DISPLAY = process.env["ANTEROOM_E2E_DISPLAY"] ?? "";
const TEXT = process.env["ANTEROOM_E2E_TEXT"] ?? "";
const COPIED = process.env["ANTEROOM_E2E_COPIED"] ?? "";
const SLOW_MS_MAX = Number(process.env["ANTEROOM_E2E_SLOW_MS"] ?? 60_000);
const CANVAS = ".desktop-host canvas";

test("a text arrives exactly from the type box and by the clipboard, and a copied text comes back", { timeout: SLOW_MS_MAX * 3 }, async () => {
  const remote = await openField(DISPLAY);
  const browser = await launch(CHROMIUM);
  try {
    const context = await browser.newContext({ permissions: ["clipboard-read", "clipboard-write"] });
    const page = await context.newPage();
    page.setDefaultTimeout(SLOW_MS_MAX);
    await page.goto(LINK);
    await page.click("[data-action=log-in]");
    await page.click("[data-action=agree]");
    await openDesktopTab(page);
    await page.locator("#panel-desktop .overlay").waitFor({ state: "detached" });
    await page.click(CANVAS);
    const field = remote.page.locator("textarea");
    await waitUntil("the focus", () => remote.page.evaluate(() => document.hasFocus()), SLOW_MS_MAX);
    await page.fill("#type-text", TEXT);
    await page.click(".type-box >> text=Type it");
    await waitUntil("the text", async () => [...(await field.inputValue())].length >= [...TEXT].length, SLOW_MS_MAX);
    assert.equal(await field.inputValue(), TEXT);
    await field.fill("");
    await page.evaluate((text) => navigator.clipboard.writeText(text), TEXT);
    await page.click(CANVAS);
    await page.keyboard.press("Control+v");
    await waitUntil("the pasted text", async () => (await field.inputValue()) !== "", SLOW_MS_MAX);
    assert.equal(await field.inputValue(), TEXT);
    await field.fill(COPIED);
    await page.keyboard.press("Control+a");
    await page.keyboard.press("Control+c");
    await waitUntil("the copied text", () => page.evaluate(async (copied) => (await navigator.clipboard.readText()) === copied, COPIED), SLOW_MS_MAX);
    assert.ok(!(await page.content()).includes(TEXT), "the page does not show the typed text");
  } finally {
    await browser.close();
    await remote.close();
  }
});

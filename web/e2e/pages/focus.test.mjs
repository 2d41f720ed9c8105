// The place of a person who uses the keyboard stays on the page, also for a moment: what had the focus is hidden, or copied with.

import assert from "node:assert/strict";
import test from "node:test";
import { waitUntil } from "../browser.mjs";
import { CODEX_METHODS, signIn } from "../fake-server/samples.mjs";
import { WAYS } from "./people.mjs";
import { openSession, runScene } from "./scene.mjs";

/** @typedef {import("playwright-core").Page} Page */

/** @type {import("../../src/api.ts").MethodView[]} */
const METHODS = [{ id: "default", label: "With a code", lanes: ["device_code"] }, ...CODEX_METHODS];
const LINK = "https://auth.openai.com/codex/device";

/** Notes each time at which the page is drawn and no element has the focus. @param {Page} page */
async function watchFocus(page) {
  await page.evaluate(() => {
    /** @type {string[]} */
    const lost = [];
    const look = () => {
      if (document.activeElement === null || document.activeElement === document.body) lost.push(document.querySelector(".status")?.textContent ?? "");
      requestAnimationFrame(look);
    };
    look();
    Object.assign(window, { focusLost: lost });
  });
  return () => page.evaluate(() => Reflect.get(window, "focusLost"));
}

/** The element with the focus. @param {Page} page */
const focused = (page) => page.evaluate(() => document.activeElement?.outerHTML.slice(0, 80) ?? "");

/** Waits until the page has drawn twice. @param {Page} page */
const drawn = (page) => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));

test("the focus stays in the footer while the code of another tab is loaded", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    /** @type {(value?: unknown) => void} */
    let load = () => {};
    const loads = new Promise((done) => (load = done));
    await page.route(/terminal-lane.*\.js$/, async (route) => {
      await loads;
      await route.continue();
    });
    const id = await openSession(scene, { lanes: ["device_code"], methods: METHODS, sign_in: signIn({ url: LINK, device_code: "ABCD-12345" }) });
    const person = WAYS.keyboard?.(page);
    await person?.press("[data-method=api_key]");
    await page.waitForSelector("dialog[open] .danger");
    await person?.press("dialog .danger");
    // The chosen method is no longer among the others.
    await page.waitForSelector("[data-method=default]");
    const lost = await watchFocus(page);
    fakeServer.change(id, { lanes: ["terminal"] });
    await page.waitForSelector(".loading-lane");
    await drawn(page);
    assert.match(await focused(page), /data-method=/, "a method next to the one that was chosen");
    load();
    await page.waitForSelector("#panel-terminal .xterm");
    await drawn(page);
    assert.match(await focused(page), /data-method=/);
    assert.deepEqual(await lost(), []);
  });
});

test("the focus leaves a method that is hidden, for what is left of its surroundings", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    const id = await openSession(scene, { lanes: ["device_code"], methods: METHODS, sign_in: signIn({ url: LINK, device_code: "ABCD-12345" }) });
    await WAYS.keyboard?.(page).press("[data-method=api_key]");
    await page.waitForSelector("dialog[open]");
    await page.keyboard.press("Escape");
    await waitUntil("the focus on the method", async () => (await focused(page)).includes('data-method="api_key"'));
    const lost = await watchFocus(page);
    fakeServer.change(id, { status: "vm_stopped" });
    await page.waitForSelector(".kept-place", { state: "attached" });
    await drawn(page);
    assert.match(await focused(page), /data-action="restart"/);
    assert.deepEqual(await lost(), []);
  });
});

test("a copy without the clipboard's interface leaves the focus at its button", async () => {
  await runScene({}, async (scene) => {
    const { page } = scene;
    await page.addInitScript(() => Object.defineProperty(navigator, "clipboard", { value: undefined }));
    await openSession(scene, { sign_in: signIn({ url: LINK, device_code: "ABCD-12345" }) });
    await WAYS.keyboard?.(page).press(".device-code .copy");
    await page.waitForSelector(".device-code .copy >> text=Copied");
    assert.match(await focused(page), /class="copy"/);
  });
});

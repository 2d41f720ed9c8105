// The server goes away in the middle of a sign-in and another comes back at the same address; the page does nothing but
// wait: ANTEROOM_E2E_LINK=… ANTEROOM_E2E_MARKS=DIR node e2e/real/crash.mjs (see journey.mjs). Whoever started this ends the
// server when the file DIR/ready appears, and writes DIR/listening (milliseconds since 1970) when the next one listens; the
// page's answer is DIR/back.

import assert from "node:assert/strict";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { until } from "../browser.mjs";
import { journey } from "./journey.mjs";
import { desktopIsThere, isConnected, pick, stateOf } from "./play.mjs";

const MARKS = process.env["ANTEROOM_E2E_MARKS"] ?? "";

/** Whole or not at all. @param {string} name @param {string} text */
function mark(name, text) {
  writeFileSync(join(MARKS, `.${name}`), text);
  renameSync(join(MARKS, `.${name}`), join(MARKS, name));
}

/**
 * Has the page itself note when its desktop is live (a picture of several colours with nothing over it) and when not.
 * @param {import("playwright-core").Page} page
 */
async function watchDesktop(page) {
  await page.evaluate(() => {
    const small = document.createElement("canvas");
    [small.width, small.height] = [96, 60];
    const context = small.getContext("2d", { willReadFrequently: true });
    const isLive = () => {
      const canvas = document.querySelector("#panel-desktop .desktop-host canvas:not(.ghost)");
      if (context === null || !(canvas instanceof HTMLCanvasElement) || canvas.width === 0) return false;
      if (document.querySelector("#panel-desktop .veil") !== null) return false;
      context.imageSmoothingEnabled = false;
      context.clearRect(0, 0, small.width, small.height);
      context.drawImage(canvas, 0, 0, small.width, small.height);
      const data = context.getImageData(0, 0, small.width, small.height).data;
      const colours = new Set();
      for (let at = 0; at < data.length; at += 4) {
        colours.add(((data[at] ?? 0) << 16) | ((data[at + 1] ?? 0) << 8) | (data[at + 2] ?? 0));
      }
      return colours.size >= 3;
    };
    /** @type {{ at: number, live: boolean }[]} */
    const seen = [];
    Reflect.set(window, "seen", seen);
    setInterval(() => {
      const live = isLive();
      if (seen.at(-1)?.live !== live) seen.push({ at: Date.now(), live });
    }, 20);
  });
}

/** @param {import("playwright-core").Page} page @returns {Promise<{ at: number, live: boolean }[]>} */
function seen(page) {
  return page.evaluate(() => Reflect.get(window, "seen"));
}

journey("crash", "Codex: the server goes away after the code is shown, and comes back", async (told) => {
  const { page, shoot, say, slow_ms_max } = told;
  const id = await pick(told, "codex");
  await page.waitForSelector("[data-device-code]", { timeout: slow_ms_max });
  await desktopIsThere(told);
  // Found again afterwards: this is still the same page, and nobody has loaded it anew.
  await watchDesktop(page);
  await until("the page to see its desktop", async () => (await seen(page)).at(-1)?.live, slow_ms_max);
  const machine_before = (await stateOf(told, id)).generation;
  mark("ready", id);
  await until("the desktop to go", async () => (await seen(page)).some(({ live }, at) => at > 0 && !live), slow_ms_max);
  say("the desktop is gone");
  await shoot("gone");
  const file = join(MARKS, "listening");
  await until("the next server", () => existsSync(file), slow_ms_max, 20);
  const listening = Number(readFileSync(file, "utf8"));
  await until("the desktop to be back", async () => (await seen(page)).at(-1)?.live, slow_ms_max, 50);
  const all = await seen(page);
  const [lost, back] = [all.find(({ live }, at) => at > 0 && !live)?.at ?? 0, all.at(-1)?.at ?? 0];
  say(`the desktop is back ${back - listening} ms after the server listened, ${back - lost} ms after it was gone`);
  await shoot("back");
  const after = await stateOf(told, id);
  assert.equal(after.generation, machine_before, "the same machine");
  mark("back", JSON.stringify({ lost, listening, back }));
  await isConnected(told, id);
});

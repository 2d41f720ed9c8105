// The server ends during a sign-in and another one starts at the same address; the page only waits:
// ANTEROOM_E2E_LINK=… ANTEROOM_E2E_MARKS=DIR node e2e/real/crash.mjs (see journey.mjs). The caller ends the server when the file
// DIR/ready appears, and writes DIR/listening (milliseconds since 1970) when the next server listens. The result is DIR/back.

import assert from "node:assert/strict";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { waitUntil } from "../browser.mjs";
import { journey } from "./journey.mjs";
import { desktopIsLive, isConnected, startSession, stateOf } from "./play.mjs";

const MARKS = process.env["ANTEROOM_E2E_MARKS"] ?? "";

/** Writes a file atomically. @param {string} name @param {string} text */
function writeMark(name, text) {
  writeFileSync(join(MARKS, `.${name}`), text);
  renameSync(join(MARKS, `.${name}`), join(MARKS, name));
}

/**
 * Lets the page record when its desktop becomes live (several colours, no overlay) and when it stops to be live.
 * @param {import("playwright-core").Page} page
 */
async function recordDesktop(page) {
  await page.evaluate(() => {
    const sample = document.createElement("canvas");
    [sample.width, sample.height] = [96, 60];
    const context = sample.getContext("2d", { willReadFrequently: true });
    const isLive = () => {
      const canvas = document.querySelector("#panel-desktop .desktop-host canvas:not(.last-frame)");
      if (context === null || !(canvas instanceof HTMLCanvasElement) || canvas.width === 0) return false;
      if (document.querySelector("#panel-desktop .overlay") !== null) return false;
      context.imageSmoothingEnabled = false;
      context.clearRect(0, 0, sample.width, sample.height);
      context.drawImage(canvas, 0, 0, sample.width, sample.height);
      const data = context.getImageData(0, 0, sample.width, sample.height).data;
      const colours = new Set();
      for (let at = 0; at < data.length; at += 4) {
        colours.add(((data[at] ?? 0) << 16) | ((data[at + 1] ?? 0) << 8) | (data[at + 2] ?? 0));
      }
      return colours.size >= 3;
    };
    /** @type {{ at: number, live: boolean }[]} */
    const changes = [];
    Reflect.set(window, "desktopChanges", changes);
    setInterval(() => {
      const live = isLive();
      if (changes.at(-1)?.live !== live) changes.push({ at: Date.now(), live });
    }, 20);
  });
}

/** @param {import("playwright-core").Page} page @returns {Promise<{ at: number, live: boolean }[]>} */
function desktopChanges(page) {
  return page.evaluate(() => Reflect.get(window, "desktopChanges"));
}

journey("crash", "Codex: the server ends after the code is shown, and a new one starts", async (journey_page) => {
  const { page, shoot, log, slow_ms_max } = journey_page;
  const id = await startSession(journey_page, "codex");
  await page.waitForSelector("[data-device-code]", { timeout: slow_ms_max });
  await desktopIsLive(journey_page);
  // The record is lost if the page is reloaded, so its presence afterwards shows that it was not.
  await recordDesktop(page);
  await waitUntil("the desktop to be live", async () => (await desktopChanges(page)).at(-1)?.live, slow_ms_max);
  const generation_before = (await stateOf(journey_page, id)).generation;
  writeMark("ready", id);
  await waitUntil("the desktop to be lost", async () => (await desktopChanges(page)).some(({ live }, at) => at > 0 && !live), slow_ms_max);
  log("the desktop is lost");
  await shoot("lost");
  const file = join(MARKS, "listening");
  await waitUntil("the next server", () => existsSync(file), slow_ms_max, 20);
  const listening = Number(readFileSync(file, "utf8"));
  await waitUntil("the desktop to be live again", async () => (await desktopChanges(page)).at(-1)?.live, slow_ms_max, 50);
  const all = await desktopChanges(page);
  const [lost, back] = [all.find(({ live }, at) => at > 0 && !live)?.at ?? 0, all.at(-1)?.at ?? 0];
  log(`the desktop is live again ${back - listening} ms after the server listened, ${back - lost} ms after it was lost`);
  await shoot("back");
  const after = await stateOf(journey_page, id);
  assert.equal(after.generation, generation_before, "the same machine");
  writeMark("back", JSON.stringify({ lost, listening, back }));
  await isConnected(journey_page, id);
});

// The states of a sign-in, in their order, for the tests of sizes and for the pictures in docs/pages.

import assert from "node:assert/strict";
import { waitUntil } from "../browser.mjs";
import { forPerson, inSeconds, signIn } from "../fake-server/samples.mjs";
import { desktopShows, openSession, statusIs } from "./scene.mjs";

/** @typedef {import("./scene.mjs").Scene} Scene */

export const CODE = signIn({ url: "https://auth.openai.com/codex/device", device_code: "ABCD-12345", device_code_until: inSeconds(800) });
const LINK = signIn({ url: "https://claude.com/cai/oauth/authorize?client_id=x" });

/** Waits until the page shows what to do next. @param {import("playwright-core").Page} page */
export const sessionShows = (page) => page.waitForSelector(".next-action");

/** Waits until the page shows a text; also in Firefox. @param {import("playwright-core").Page} page @param {string} text */
function textShows(page, text) {
  return waitUntil(text, () =>
    page.evaluate(
      (wanted) => [...document.querySelectorAll("main *, [role=status]")].some((element) => element.textContent?.includes(wanted) && element.checkVisibility()),
      text,
    ),
  );
}

/** Each brings the page into a state. @type {Record<string, (scene: Scene) => Promise<unknown>>} */
export const SIGN_IN_STATES = {
  start: async ({ page, base }) => {
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.waitForSelector("[data-provider=codex]");
  },
  consent: async (scene) => {
    scene.fakeServer.consent = "required";
    await openSession(scene);
    await scene.page.waitForSelector("[data-action=agree]");
    scene.fakeServer.consent = "not_needed";
  },
  queue: async (scene) => {
    await openSession(scene, { status: "vm_creating", queue_position: 3 });
    await sessionShows(scene.page);
  },
  code: async (scene) => {
    await openSession(scene, { sign_in: CODE });
    await scene.page.waitForSelector("[data-device-code]");
  },
  link: async (scene) => {
    await openSession(scene, { lanes: ["link", "terminal"], sign_in: LINK });
    await scene.page.waitForSelector(".sign-in-address a");
  },
  "remote-browser": async (scene) => {
    await openSession(scene, { lanes: ["desktop", "link", "terminal"], sign_in: CODE });
    await desktopShows(scene.page);
  },
  terminal: async (scene) => {
    await openSession(scene, { lanes: ["terminal"] });
    await scene.page.click("#tab-terminal");
    await scene.page.waitForSelector(".xterm-rows");
  },
  offline: async (scene) => {
    await openSession(scene, { sign_in: CODE });
    await scene.page.waitForSelector("[data-device-code]");
    await scene.setOffline(true);
    await textShows(scene.page, "Connection lost. Reconnecting…");
  },
  back: async ({ page, setOffline }) => {
    await setOffline(false);
    await textShows(page, "Your turn");
  },
  failure: async (scene) => {
    const id = await openSession(scene, { sign_in: CODE });
    const session = scene.fakeServer.sessions.get(id);
    assert.ok(session);
    const sentence = "Codex could not reach auth.openai.com from here.";
    const for_person = forPerson(session, { situation: "host_unreachable", phase: "needs_attention", title: "This did not work", sentence, actions: ["restart_tool", "change_method"] });
    scene.fakeServer.change(id, { for_person });
    await textShows(scene.page, sentence);
  },
  connected: async (scene) => {
    await openSession(scene, { status: "completed", credential: scene.fakeServer.credentials[0] ?? null });
    await statusIs(scene.page, "completed");
  },
  ended: async (scene) => {
    await openSession(scene, { status: "failed", reason: { code: "machine_failed", sentence: "The machine ended." }, ended_at: inSeconds(-5) });
    await statusIs(scene.page, "failed");
  },
};

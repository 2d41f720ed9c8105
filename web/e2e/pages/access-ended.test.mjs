import assert from "node:assert/strict";
import test from "node:test";
import { desktopShows, openDesktop, openSession, runScene, statusIs } from "./scene.mjs";

/** @type {[4411 | 4412 | 4414, string, RegExp, RegExp][]} */
const CASES = [
  [4411, "caller_revoked", /You were signed out.*access was ended/s, /Sign in again/],
  [4412, "caller_expired", /sign-in has expired/s, /Sign in again/],
  [4414, "helper_ended", /not watching any more.*access to this session was ended/s, /Ask the person who invited you/],
];

for (const [close_code, code, words, remedy] of CASES) {
  for (const streams of [true, false]) {
    test(`${code}: the session's page explains it and does not reconnect (${streams ? "event stream" : "desktop only"})`, async () => {
      await runScene({}, async (scene) => {
        const { page, fakeServer, shoot } = scene;
        await openSession(scene);
        await openDesktop(page);
        await statusIs(page, "authenticating");
        fakeServer.endAccess(close_code, { streams });
        await page.waitForSelector(`main[data-page=signed-out] [data-problem=${code}]`);
        const text = (await page.textContent("main")) ?? "";
        assert.match(text, words);
        assert.match(text, remedy);
        assert.doesNotMatch(text, /[Rr]econnect/);
        await shoot(`access-ended-${close_code}`);
        assert.equal(await page.locator("[data-connection]").count(), 0, "no connection is tried any more");
      });
    });
  }

  test(`${code}: the desktop's page explains it and leads to the sign-in`, async () => {
    await runScene({}, async ({ page, fakeServer, base, shoot }) => {
      const session = fakeServer.add({ status: "authenticating" });
      await page.goto(`${base}/api/auth/session/${session.id}/novnc`);
      await desktopShows(page);
      fakeServer.endAccess(close_code, { streams: true });
      await page.waitForSelector("[data-connection=access_ended]");
      assert.match((await page.textContent(".overlay")) ?? "", words);
      await shoot(`access-ended-desktop-${close_code}`);
      await page.click(".overlay a");
      await page.waitForSelector("main[data-page=signed-out]");
    });
  });
}

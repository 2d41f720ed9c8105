// The start page is current without a reload: while sessions change, after the network was away, and after a sign-out elsewhere.

import assert from "node:assert/strict";
import test from "node:test";
import { waitUntil } from "../browser.mjs";
import { openSession, runScene, statusIs } from "./scene.mjs";

test("the open sign-ins follow what happens to them", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    const { id } = fakeServer.add({ status: "vm_creating" });
    await page.goto(`${base}/dashboard/remote-cli`);
    const row = page.locator(`[data-session="${id}"]`);
    await row.getByText("Getting a computer ready…").waitFor();
    fakeServer.change(id, { status: "authenticating" });
    await row.getByText("Waiting for you").waitFor();
    fakeServer.change(id, { status: "completed" });
    await row.waitFor({ state: "detached" });
    const other = fakeServer.add({ status: "authenticating" });
    await page.waitForSelector(`[data-session="${other.id}"] [data-action=continue]`);
    fakeServer.credentials = [];
    await page.waitForSelector("[data-credential]", { state: "detached" });
  });
});

test("without the event stream the start page follows by requests", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    fakeServer.events_enabled = false;
    const { id } = fakeServer.add({ status: "authenticating" });
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.waitForSelector(`[data-session="${id}"]`);
    fakeServer.change(id, { status: "cancelled" });
    await page.waitForSelector(`[data-session="${id}"]`, { state: "detached" });
  });
});

test("without a network the start page tries again by itself, and is current at once when the network is back", async () => {
  await runScene({}, async ({ page, fakeServer, base, shoot }) => {
    const { id } = fakeServer.add({ status: "authenticating" });
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.waitForSelector(`[data-session="${id}"]`);
    let failed = 0;
    page.on("requestfailed", () => (failed += 1));
    await page.context().setOffline(true);
    await page.waitForSelector("text=This page tries again by itself.");
    await shoot("start-offline");
    const first = failed;
    await waitUntil("further attempts", () => failed >= first + 2);
    assert.ok(await page.isVisible(`[data-session="${id}"]`), "the last list stays on the page");
    fakeServer.change(id, { status: "cancelled", reason: { code: "cancelled", sentence: "The session was cancelled." } });
    await page.context().setOffline(false);
    await page.waitForSelector("text=This page tries again by itself.", { state: "detached" });
    await page.waitForSelector(`[data-session="${id}"]`, { state: "detached" });
  });
});

test("a start page without a network at first shows its content when the network is back", async () => {
  await runScene({}, async ({ page, base }) => {
    await page.route("**/api/**", (route) => route.abort());
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.waitForSelector("text=This page tries again by itself.");
    await page.unroute("**/api/**");
    await page.waitForSelector("[data-provider]");
    assert.equal(await page.locator(".note.bad").count(), 0);
  });
});

test("a start page whose user is signed out elsewhere notices it", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    fakeServer.add({ status: "authenticating" });
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.waitForSelector("[data-provider]");
    fakeServer.anonymous_allowed = false;
    await page.waitForSelector("main[data-page=signed-out]");
  });
});

test("a hidden page requests nothing, and is current when it is shown again", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    const { id } = fakeServer.add({ status: "authenticating" });
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.waitForSelector(`[data-session="${id}"]`);
    const show = (/** @type {string} */ state) =>
      page.evaluate((value) => {
        Object.defineProperty(document, "visibilityState", { value, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
      }, state);
    await show("hidden");
    // The request that was under way, or was already due, may still arrive.
    let seen = -1;
    await waitUntil("silence for longer than the interval", () => {
      const silent = seen === fakeServer.requests.length;
      seen = fakeServer.requests.length;
      return silent;
    }, 20_000, 3_000);
    fakeServer.change(id, { status: "completed" });
    await show("visible");
    await page.waitForSelector(`[data-session="${id}"]`, { state: "detached" });
  });
});

test("a session's page without a network is current at once when the network is back", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    const id = await openSession(scene);
    await statusIs(page, "authenticating");
    await page.context().setOffline(true);
    fakeServer.breakStreams();
    fakeServer.change(id, { status: "cancelled", reason: { code: "cancelled", sentence: "The session was cancelled." } });
    await waitUntil("the lost connection", () => page.getByText("Connection lost. Reconnecting…").count());
    await page.context().setOffline(false);
    await statusIs(page, "cancelled");
  });
});

test("a page that cannot ask for the agreement asks for it when the server answers again", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    fakeServer.consent = "required";
    await page.route("**/consent", (route) => route.abort());
    await openSession(scene);
    await waitUntil("a failed request", () => page.isVisible("main[data-page=auth]"));
    await page.unroute("**/consent");
    await page.waitForSelector("[data-consent=required]");
  });
});

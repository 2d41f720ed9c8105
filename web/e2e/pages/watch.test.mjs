import assert from "node:assert/strict";
import test from "node:test";
import { waitUntil } from "../browser.mjs";
import { desktopShows, openDesktop, runScene, statusIs } from "./scene.mjs";

/** Clicks on the desktop and types. @param {import("playwright-core").Page} page */
async function sendInput(page) {
  const box = await page.locator(".desktop-host canvas").boundingBox();
  assert.ok(box);
  await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
  await page.keyboard.type("hello");
}

test("a view-only page shows the desktop, sends no input and does not keep the session alive", async () => {
  await runScene({}, async ({ page, fakeServer, base, shoot }) => {
    const session = fakeServer.add({ status: "authenticating" });
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.click(`[data-session="${session.id}"] [data-action=watch]`);
    await desktopShows(page);
    await statusIs(page, "authenticating");
    assert.match((await page.textContent("[data-notice=view-only]")) ?? "", /View only/);
    const tickets = fakeServer.requests.filter((call) => call.path.endsWith("/ticket"));
    assert.deepEqual(tickets.map((call) => call.body), [{ purpose: "desktop", view_only: true }]);
    await sendInput(page);
    // A new frame is sent after everything that the page could have sent before.
    const desktop = fakeServer.desktop();
    desktop?.fillRectangle(0, 0, 20, 20, 1, 2, 3);
    await waitUntil("a frame after the click", () => desktop?.frames_sent);
    assert.deepEqual([desktop?.keys, desktop?.clicks], [[], []]);
    for (const part of ["#tab-terminal", "[data-action=cancel]", ".keys-bar", ".type-box", ".clipboard-panel", "#paste-text"]) {
      assert.equal(await page.locator(part).count(), 0, part);
    }
    assert.equal(fakeServer.requests.filter((call) => call.path.endsWith("/heartbeat")).length, 0);
    await shoot("watch");
    await page.click("text=Take control");
    await openDesktop(page);
    await sendInput(page);
    await waitUntil("the click", () => fakeServer.desktop()?.clicks.length);
    await waitUntil("a heartbeat", () => fakeServer.requests.some((call) => call.path.endsWith("/heartbeat")));
  });
});

test("the desktop page can be view-only too", async () => {
  await runScene({}, async ({ page, fakeServer, base, shoot }) => {
    const session = fakeServer.add({ status: "authenticating" });
    await page.goto(`${base}/api/auth/session/${session.id}/novnc?view=1`);
    await desktopShows(page);
    assert.equal(await page.textContent(".desktop-page-note"), "View only.");
    await sendInput(page);
    await shoot("desktop-page-watch");
    assert.deepEqual([fakeServer.desktop()?.keys, fakeServer.desktop()?.clicks], [[], []]);
    await page.click("#open-session-page");
    await page.waitForSelector("[data-notice=view-only]");
  });
});

test("a permanent close code shows its reason and offers the next step", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    const session = fakeServer.add({ status: "authenticating" });
    fakeServer.desktop_rejections = [[4403, "not_owner: This belongs to another caller, or needs another role."]];
    await page.goto(`${base}/api/auth/session/${session.id}/novnc`);
    await page.waitForSelector("[data-connection=stopped]");
    assert.match((await page.textContent(".overlay")) ?? "", /This belongs to another person\./);
    assert.equal(await page.getAttribute(".overlay a", "href"), "/dashboard/remote-cli");
    fakeServer.desktop_rejections = [[4410, "machine_failed: The machine ended and the session had no restart left."]];
    await page.reload();
    await page.waitForSelector("[data-connection=ended]");
    assert.match((await page.textContent(".overlay")) ?? "", /This has ended\./);
    await page.click("text=Start again");
    await page.waitForSelector("main[data-page=start]");
  });
});

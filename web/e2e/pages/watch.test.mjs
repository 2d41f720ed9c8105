import assert from "node:assert/strict";
import test from "node:test";
import { until } from "../browser.mjs";
import { desktopShows, scene, statusIs } from "./scene.mjs";

/** Clicks on the desktop and types. @param {import("playwright-core").Page} page */
async function act(page) {
  const box = await page.locator(".desktop-host canvas").boundingBox();
  assert.ok(box);
  await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
  await page.keyboard.type("hello");
}

test("who watches sees the desktop, says nothing to it and does not keep the session alive", async () => {
  await scene({}, async ({ page, fakeServer, base, shoot }) => {
    const session = fakeServer.add({ status: "authenticating" });
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.click(`[data-session="${session.id}"] [data-action=watch]`);
    await desktopShows(page);
    await statusIs(page, "authenticating");
    assert.match((await page.textContent("[data-notice=view-only]")) ?? "", /View only/);
    const tickets = fakeServer.calls.filter((call) => call.path.endsWith("/ticket"));
    assert.deepEqual(tickets.map((call) => call.body), [{ purpose: "desktop", view_only: true }]);
    await act(page);
    // What the desktop is told next has been told after all that would have been told before.
    const seen = fakeServer.desktop();
    seen?.box(0, 0, 20, 20, 1, 2, 3);
    await until("a picture after the click", () => seen?.pictures);
    assert.deepEqual([seen?.keys, seen?.clicks], [[], []]);
    for (const part of ["#tab-terminal", "[data-action=cancel]", ".keys", ".paste-details"]) {
      assert.equal(await page.locator(part).count(), 0, part);
    }
    assert.equal(fakeServer.calls.filter((call) => call.path.endsWith("/heartbeat")).length, 0);
    await shoot("watch");
    await page.click("text=Take part");
    await desktopShows(page);
    await act(page);
    await until("the click", () => fakeServer.desktop()?.clicks.length);
    await until("a beat", () => fakeServer.calls.some((call) => call.path.endsWith("/heartbeat")));
  });
});

test("the bare desktop can be watched too", async () => {
  await scene({}, async ({ page, fakeServer, base, shoot }) => {
    const session = fakeServer.add({ status: "authenticating" });
    await page.goto(`${base}/api/auth/session/${session.id}/novnc?view=1`);
    await desktopShows(page);
    assert.equal(await page.textContent(".bare-note"), "View only");
    await act(page);
    await shoot("bare-watch");
    assert.deepEqual([fakeServer.desktop()?.keys, fakeServer.desktop()?.clicks], [[], []]);
    await page.click("#leave");
    await page.waitForSelector("[data-notice=view-only]");
  });
});

test("a close that no wait can mend says why and offers the next step", async () => {
  await scene({}, async ({ page, fakeServer, base }) => {
    const session = fakeServer.add({ status: "authenticating" });
    fakeServer.refuse = [[4403, "not_owner: This belongs to another caller."]];
    await page.goto(`${base}/api/auth/session/${session.id}/novnc`);
    await page.waitForSelector("[data-connection=stopped]");
    assert.match((await page.textContent(".veil")) ?? "", /belongs to another caller/);
    assert.equal(await page.getAttribute(".veil a", "href"), "/dashboard/remote-cli");
    fakeServer.refuse = [[4410, "machine_failed: The machine ended and the session had no restart left."]];
    await page.reload();
    await page.waitForSelector("[data-connection=over]");
    assert.match((await page.textContent(".veil")) ?? "", /no restart left/);
    await page.click("text=Start a new session");
    await page.waitForSelector("main[data-page=pick]");
  });
});

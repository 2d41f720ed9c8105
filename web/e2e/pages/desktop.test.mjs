import assert from "node:assert/strict";
import test from "node:test";
import { coloursOnDesktop, until } from "../browser.mjs";
import { desktopShows, openSession, scene } from "./scene.mjs";

test("the desktop shows a picture and takes clicks and keys", async () => {
  await scene({}, async (stage) => {
    const { page, fakeServer } = stage;
    await openSession(stage);
    await desktopShows(page);
    const box = await page.locator(".desktop-host canvas").boundingBox();
    assert.ok(box);
    await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
    await until("the click", () => fakeServer.desktop()?.clicks.length);
    const at = fakeServer.desktop()?.clicks[0];
    assert.ok(at && Math.abs(at.x - 400) < 4 && Math.abs(at.y - 250) < 4, JSON.stringify(at));
    await page.keyboard.type("hi");
    await until("the keys", () => (fakeServer.desktop()?.keys.length ?? 0) >= 2);
    assert.deepEqual(fakeServer.desktop()?.keys.slice(0, 2), [0x68, 0x69]);
  });
});

test("the desktop's socket is opened at once, before the machine is ready", async () => {
  await scene({}, async (stage) => {
    await openSession(stage, { status: "vm_creating" });
    await until("a viewer", () => stage.fakeServer.viewers.size === 1);
    await desktopShows(stage.page);
  });
});

test("a replaced machine: the page connects again by itself and says what happened", async () => {
  await scene({}, async (stage) => {
    const { page, fakeServer, shoot } = stage;
    const id = await openSession(stage);
    await desktopShows(page);
    fakeServer.hue = 70;
    // The new machine takes a moment, during which the page waits calmly.
    fakeServer.refuse = [[4409, "not_ready: The machine is not ready yet."], [4502, ""], [4503, ""]];
    fakeServer.change(id, { status: "vm_stopped", reason: { code: "machine_failed", sentence: "The machine ended: killed by signal 9." } });
    fakeServer.closeDesktops(4510, "machine_replaced: The machine was replaced by a new one.");
    await page.waitForSelector("[data-connection=waiting], [data-connection=connecting]");
    await shoot("desktop-waiting");
    await desktopShows(page);
    fakeServer.change(id, { status: "vm_started", generation: 2, reason: null });
    await page.waitForSelector("[data-notice=replaced] button");
    assert.match((await page.textContent("[data-notice=replaced]")) ?? "", /machine 2 of at most 3/);
    await shoot("desktop-replaced");
    await page.click("[data-notice=replaced] button");
    assert.equal(await page.locator("[data-notice=replaced]").count(), 0);
  });
});

test("a connection that breaks without a word is taken up again", async () => {
  await scene({}, async (stage) => {
    await openSession(stage);
    await desktopShows(stage.page);
    for (const viewer of stage.fakeServer.viewers) viewer.socket.terminate();
    await stage.page.waitForSelector(".veil");
    await desktopShows(stage.page);
  });
});

test("a session that is over shows its end, not a reconnection", async () => {
  await scene({}, async (stage) => {
    const { page, fakeServer } = stage;
    const id = await openSession(stage);
    await desktopShows(page);
    // The socket hears it first; the state is asked for because of that.
    fakeServer.streams = false;
    fakeServer.sessions.set(id, {
      .../** @type {any} */ (fakeServer.sessions.get(id)),
      status: "failed",
      reason: { code: "machine_failed", sentence: "The machine ended and the session had no restart left." },
    });
    const tickets = fakeServer.calls.filter((call) => call.path.endsWith("/ticket")).length;
    fakeServer.closeDesktops(4410, "machine_failed: The machine ended and the session had no restart left.");
    await page.waitForSelector("main[data-status=failed]");
    assert.match((await page.textContent("main")) ?? "", /no restart left/);
    assert.equal(fakeServer.calls.filter((call) => call.path.endsWith("/ticket")).length, tickets);
  });
});

test("a spent ticket is renewed once, and then the page says so", async () => {
  await scene({}, async (stage) => {
    const { page, fakeServer } = stage;
    fakeServer.refuse = [[4401, "ticket_used: This link or ticket was used before or has expired."]];
    await openSession(stage);
    await desktopShows(page);
    fakeServer.refuse = [
      [4401, "ticket_used: This link or ticket was used before or has expired."],
      [4401, "ticket_used: This link or ticket was used before or has expired."],
    ];
    for (const viewer of fakeServer.viewers) viewer.socket.terminate();
    await page.waitForSelector("[data-connection=stopped]");
    await page.click("text=Connect again");
    await desktopShows(page);
  });
});

test("too many viewers: the page says it and does not knock on", async () => {
  await scene({}, async (stage) => {
    stage.fakeServer.refuse = [[4429, "too_many_viewers: This session has reached its maximum number of viewers."]];
    await openSession(stage);
    await stage.page.waitForSelector("[data-connection=stopped]");
    assert.match((await stage.page.textContent(".veil")) ?? "", /as many viewers as it may have/);
    assert.equal(stage.fakeServer.calls.filter((call) => call.path.endsWith("/ticket")).length, 1);
    await stage.shoot("desktop-too-many");
  });
});

test("the desktop stays connected while the terminal is in front", async () => {
  await scene({}, async (stage) => {
    const { page, fakeServer } = stage;
    await openSession(stage);
    await desktopShows(page);
    const before = fakeServer.desktop();
    await page.click("#tab-terminal");
    await until("the terminal", async () => ((await page.textContent(".xterm-rows").catch(() => "")) ?? "").includes("codex login"));
    await page.click("#tab-desktop");
    await desktopShows(page);
    assert.equal(fakeServer.desktop(), before);
    assert.ok((await coloursOnDesktop(page)) > 10);
  });
});

test("keys that a phone lacks: Esc, Tab, and Ctrl held for one key", async () => {
  await scene({}, async (stage) => {
    const { page, fakeServer } = stage;
    await openSession(stage);
    await desktopShows(page);
    await page.click(".keys >> text=Esc");
    await page.click(".keys >> text=Ctrl");
    assert.equal(await page.getAttribute(".keys >> text=Ctrl", "aria-pressed"), "true");
    await page.click(".keys >> text=Tab");
    assert.equal(await page.getAttribute(".keys >> text=Ctrl", "aria-pressed"), "false");
    await until("the keys", () => (fakeServer.desktop()?.keys.length ?? 0) >= 3);
    assert.deepEqual(fakeServer.desktop()?.keys, [0xff1b, 0xffe3, 0xff09]);
  });
});

test("the bare desktop page shows the desktop and nothing else", async () => {
  await scene({}, async ({ page, fakeServer, base, shoot }) => {
    const session = fakeServer.add({ status: "authenticating" });
    await page.goto(`${base}/api/auth/session/${session.id}/novnc`);
    await desktopShows(page);
    await shoot("bare");
    await page.click("#leave");
    await page.waitForSelector("main[data-page=auth]");
  });
});

import assert from "node:assert/strict";
import { Duplex } from "node:stream";
import test from "node:test";
import { coloursOnDesktop, waitUntil } from "../browser.mjs";
import { forPerson } from "../fake-server/samples.mjs";
import { desktopShows, openDesktop, openSession, runScene } from "./scene.mjs";

test("the desktop shows a picture and receives clicks and keys", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    await openSession(scene);
    await openDesktop(page);
    const box = await page.locator(".desktop-host canvas").boundingBox();
    assert.ok(box);
    await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
    await waitUntil("the click", () => fakeServer.desktop()?.clicks.length);
    const at = fakeServer.desktop()?.clicks[0];
    assert.ok(at && Math.abs(at.x - 400) < 4 && Math.abs(at.y - 250) < 4, JSON.stringify(at));
    await page.keyboard.type("hi");
    await waitUntil("the keys", () => (fakeServer.desktop()?.keys.length ?? 0) >= 2);
    assert.deepEqual(fakeServer.desktop()?.keys.slice(0, 2), [0x68, 0x69]);
  });
});

test("the desktop's socket is opened before the machine is ready", async () => {
  await runScene({}, async (scene) => {
    await openSession(scene, { status: "vm_creating", lanes: ["desktop"] });
    await waitUntil("a viewer", () => scene.fakeServer.viewers.size === 1);
    await desktopShows(scene.page);
  });
});

test("after a machine is replaced, the page reconnects and shows what happened", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, shoot } = scene;
    const id = await openSession(scene);
    await openDesktop(page);
    fakeServer.hue = 70;
    // The new machine is not ready at once; the page waits.
    fakeServer.desktop_rejections = [[4409, "not_ready: The machine is not ready yet."], [4502, ""], [4503, ""]];
    fakeServer.change(id, { status: "vm_stopped", reason: { code: "machine_failed", sentence: "The machine ended: killed by signal 9." } });
    fakeServer.closeDesktops(4510, "machine_replaced: The machine was replaced by a new one.");
    await page.waitForSelector("[data-connection=waiting], [data-connection=connecting]");
    await shoot("desktop-waiting");
    await desktopShows(page);
    fakeServer.change(id, { status: "vm_started", generation: 2, reason: null });
    await page.waitForSelector("[data-notice=replaced] button");
    assert.equal(await page.textContent("[data-notice=replaced] p"), "The temporary computer stopped. A new one is ready: please sign in again.");
    assert.doesNotMatch((await page.textContent(".session-head")) ?? "", /signal/);
    await shoot("desktop-replaced");
    await page.click("[data-notice=replaced] button");
    assert.equal(await page.locator("[data-notice=replaced]").count(), 0);
  });
});

test("a connection that breaks without a close code is reopened", async () => {
  await runScene({}, async (scene) => {
    await openSession(scene);
    await openDesktop(scene.page);
    for (const viewer of scene.fakeServer.viewers) viewer.socket.terminate();
    await scene.page.waitForSelector(".overlay");
    await desktopShows(scene.page);
  });
});

test("an ended session shows its end and does not reconnect", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    const id = await openSession(scene);
    await openDesktop(page);
    // Only the socket receives the end; the page requests the state because of it.
    fakeServer.events_enabled = false;
    fakeServer.sessions.set(id, {
      .../** @type {any} */ (fakeServer.sessions.get(id)),
      status: "failed",
      reason: { code: "machine_failed", sentence: "The machine ended and the session had no restart left." },
      for_person: forPerson(/** @type {any} */ ({ ...fakeServer.sessions.get(id), status: "failed" })),
    });
    const tickets = fakeServer.requests.filter((call) => call.path.endsWith("/ticket")).length;
    fakeServer.closeDesktops(4410, "machine_failed: The machine ended and the session had no restart left.");
    await page.waitForSelector("main[data-status=failed]");
    assert.match((await page.textContent("main")) ?? "", /The temporary computer stopped three times\. Nothing was saved\./);
    assert.equal(fakeServer.requests.filter((call) => call.path.endsWith("/ticket")).length, tickets);
  });
});

test("a used ticket is renewed once, then the page shows an error", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    fakeServer.desktop_rejections = [[4401, "ticket_used: This link or ticket was used before or has expired."]];
    await openSession(scene);
    await openDesktop(page);
    fakeServer.desktop_rejections = [
      [4401, "ticket_used: This link or ticket was used before or has expired."],
      [4401, "ticket_used: This link or ticket was used before or has expired."],
    ];
    for (const viewer of fakeServer.viewers) viewer.socket.terminate();
    await page.waitForSelector("[data-connection=stopped]");
    await page.click("text=Connect again");
    await desktopShows(page);
  });
});

test("with too many viewers, the page shows an error and does not retry", async () => {
  await runScene({}, async (scene) => {
    scene.fakeServer.desktop_rejections = [[4429, "too_many_viewers: This session has reached its maximum number of viewers."]];
    await openSession(scene, { lanes: ["desktop"] });
    await scene.page.waitForSelector("[data-connection=stopped]");
    assert.match((await scene.page.textContent(".overlay")) ?? "", /This is open in too many windows\. Close one, then try again\./);
    assert.equal(scene.fakeServer.requests.filter((call) => call.path.endsWith("/ticket")).length, 1);
    await scene.shoot("desktop-too-many");
  });
});

/**
 * A desktop that sends `greeting`, and each of `answers` when the viewer has sent as many bytes as it names.
 * @param {string} greeting @param {[number, Buffer][]} answers
 */
function scriptedDesktop(greeting, answers) {
  const left = [...answers];
  let received = 0;
  const desktop = new Duplex({
    read: () => undefined,
    write: (/** @type {Buffer} */ bytes, _encoding, done) => {
      received += bytes.length;
      while (left[0] !== undefined && received >= left[0][0]) {
        received -= left[0][0];
        desktop.push(left.shift()?.[1]);
      }
      done();
    },
  });
  desktop.push(greeting);
  return desktop;
}

for (const [name, greeting, answers] of /** @type {[string, string, [number, Buffer][]][]} */ ([
  ["r25_realvnc: security types that noVNC lacks", "RFB 005.000\n", [[12, Buffer.from([2, 13, 5])]]],
  // noVNC takes 6 and asks to verify the key: its length in bits, the modulus and the exponent.
  ["r25_pi: a key to verify", "RFB 005.000\n", [[12, Buffer.from([5, 13, 5, 6, 130, 192])], [1, Buffer.concat([Buffer.from([0, 0, 4, 0]), Buffer.alloc(256, 0x5b)])]]],
  ["a desktop that rejects everybody", "RFB 003.008\n", [[12, Buffer.from([1, 1])], [1, Buffer.from([0, 0, 0, 1, 0, 0, 0, 2, 0x6e, 0x6f])]]],
])) {
  test(`${name}: the page says that it cannot be shown, once`, async () => {
    await runScene({ expected_error: /^Failed when connecting: / }, async (scene) => {
      let connections = 0;
      scene.fakeServer.connectDesktop = () => {
        connections += 1;
        return scriptedDesktop(greeting, answers);
      };
      await openSession(scene, { lanes: ["desktop"] });
      await scene.page.waitForSelector("[data-connection=stopped]");
      assert.match((await scene.page.textContent(".overlay")) ?? "", /This screen cannot be shown here\..*Connect again/);
      // Longer than the pause before a fast reconnection.
      await scene.page.waitForTimeout(2_500);
      assert.equal(connections, 1);
      await scene.page.click("text=Connect again");
      await waitUntil("the next attempt", () => connections === 2);
      await scene.page.waitForSelector("[data-connection=stopped]");
    });
  });
}

test("a desktop that the server refuses for good is shown once, with a button", async () => {
  await runScene({}, async (scene) => {
    scene.fakeServer.desktop_rejections = [[4511, "external_rejected: The external desktop refused the connection."]];
    await openSession(scene, { lanes: ["desktop"] });
    await scene.page.waitForSelector("[data-connection=stopped]");
    assert.match((await scene.page.textContent(".overlay")) ?? "", /does not let us in at the moment/);
    await scene.page.click("text=Connect again");
    await desktopShows(scene.page);
  });
});

test("the desktop stays connected while the terminal is shown", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    await openSession(scene);
    await openDesktop(page);
    const before = fakeServer.desktop();
    await page.click("#tab-terminal");
    await waitUntil("the terminal", async () => ((await page.textContent(".xterm-rows").catch(() => "")) ?? "").includes("codex login"));
    await page.click("#tab-desktop");
    await desktopShows(page);
    assert.equal(fakeServer.desktop(), before);
    assert.ok((await coloursOnDesktop(page)) > 10);
  });
});

test("the key bar sends Esc, Tab, and Ctrl held for one key", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    await openSession(scene);
    await openDesktop(page);
    await page.click(".desktop-tools >> text=Keys");
    await page.click(".keys-bar >> text=Esc");
    await page.click(".keys-bar >> text=Ctrl");
    assert.equal(await page.getAttribute(".keys-bar >> text=Ctrl", "aria-pressed"), "true");
    await page.click(".keys-bar >> text=Tab");
    assert.equal(await page.getAttribute(".keys-bar >> text=Ctrl", "aria-pressed"), "false");
    await waitUntil("the keys", () => (fakeServer.desktop()?.keys.length ?? 0) >= 3);
    assert.deepEqual(fakeServer.desktop()?.keys, [0xff1b, 0xffe3, 0xff09]);
  });
});

test("the desktop page shows only the desktop", async () => {
  await runScene({}, async ({ page, fakeServer, base, shoot }) => {
    const session = fakeServer.add({ status: "authenticating" });
    await page.goto(`${base}/api/auth/session/${session.id}/novnc`);
    await desktopShows(page);
    for (const [button, keysym] of /** @type {const} */ ([["Enter", 0xff0d], ["Backspace", 0xff08], ["Left", 0xff51]])) {
      if (button === "Enter") await page.click(".desktop-tools >> text=Keys");
      await page.click(`.keys-bar >> [aria-label="${button}"]`);
      await waitUntil(button, () => fakeServer.desktop()?.keys.at(-1) === keysym);
    }
    await shoot("desktop-page");
    await page.click("#open-session-page");
    await page.waitForSelector("main[data-page=auth]");
  });
});

test("on a slow line the desktop is asked for pictures of a lower quality", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    await openSession(scene);
    await openDesktop(page);
    assert.equal(fakeServer.desktop()?.quality_level, 6);
    const session = await page.context().newCDPSession(page);
    const slow = { offline: false, latency: 500, downloadThroughput: 0.4e6 / 8, uploadThroughput: 0.4e6 / 8 };
    await session.send("Network.emulateNetworkConditions", slow);
    await waitUntil("the lower quality", () => fakeServer.desktop()?.quality_level === 3);
  });
});

// The pages on a phone: where the picture is, how large, and how it is moved.

import assert from "node:assert/strict";
import test from "node:test";
import { waitUntil } from "../browser.mjs";
import { signIn } from "../fake-server/samples.mjs";
import { desktopShows, openDesktop, openSession, runScene } from "./scene.mjs";

const TOUCH = { hasTouch: true, isMobile: true };
const PORTRAIT = { viewport: { width: 390, height: 844 }, ...TOUCH };
const LANDSCAPE = { viewport: { width: 844, height: 390 }, ...TOUCH };
const CANVAS = ".desktop-host canvas";
const LINK = "https://claude.com/cai/oauth/authorize?client_id=x";

/** The bounds of an element in the viewport. @param {import("./scene.mjs").Scene} scene @param {string} selector */
async function bounds({ page }, selector) {
  const box = await page.locator(selector).first().boundingBox();
  assert.ok(box, selector);
  return box;
}

/** Moves fingers along straight lines. @param {import("./scene.mjs").Scene} scene @param {{ from: [number, number], to: [number, number] }[]} fingers */
async function moveFingers({ page }, fingers) {
  const session = await page.context().newCDPSession(page);
  const at = (/** @type {number} */ share) =>
    fingers.map(({ from, to }, id) => ({ id, x: from[0] + (to[0] - from[0]) * share, y: from[1] + (to[1] - from[1]) * share }));
  await session.send("Input.dispatchTouchEvent", { type: "touchStart", touchPoints: at(0) });
  for (let step = 1; step <= 10; step += 1) {
    await session.send("Input.dispatchTouchEvent", { type: "touchMove", touchPoints: at(step / 10) });
    // A gesture that is faster than the screen is no gesture.
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(done)));
  }
  await session.send("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
}

/** How far the picture is scrolled in its frame. @param {import("./scene.mjs").Scene} scene */
const scrolled = ({ page }) => page.locator(".desktop-host").evaluate((view) => [Math.round(view.scrollLeft), Math.round(view.scrollTop)]);

test("in portrait the picture is near the top, as wide as the screen and at its own size, and one finger moves it", async () => {
  await runScene(PORTRAIT, async (scene) => {
    const { page, fakeServer, shoot } = scene;
    await openSession(scene, { lanes: ["desktop"] });
    await openDesktop(page);
    const frame = await bounds(scene, ".focus-trap-frame");
    assert.deepEqual([frame.x, frame.width], [0, 390]);
    assert.ok(frame.y < 260, `the picture begins at ${frame.y}`);
    assert.ok(frame.height > 350, `${frame.height}`);
    assert.equal((await bounds(scene, CANVAS)).width, 800);
    const [left] = await scrolled(scene);
    assert.equal(left, 205, "the middle of the picture is in view");
    await shoot("phone-portrait");
    await moveFingers(scene, [{ from: [300, frame.y + 100], to: [200, frame.y + 60] }]);
    const [moved_left] = await scrolled(scene);
    assert.ok((moved_left ?? 0) > 260, `${moved_left}`);
    assert.deepEqual(fakeServer.desktop()?.clicks, [], "no button was pressed in the machine");
    await page.touchscreen.tap(195, frame.y + 50);
    const at = await waitUntil("the tap", () => fakeServer.desktop()?.clicks[0]);
    assert.ok(Math.abs(at.x - (195 + (moved_left ?? 0))) < 4, JSON.stringify(at));
    assert.ok(!(await page.evaluate(() => document.documentElement.scrollWidth > 390)), "the page does not scroll sideways");
  });
});

test("two fingers change the size of the picture, and Fit shows it whole", async () => {
  await runScene(PORTRAIT, async (scene) => {
    const { page } = scene;
    await openSession(scene, { lanes: ["desktop"] });
    await openDesktop(page);
    const { y } = await bounds(scene, ".focus-trap-frame");
    await moveFingers(scene, [{ from: [170, y + 150], to: [60, y + 150] }, { from: [220, y + 150], to: [330, y + 150] }]);
    await waitUntil("a larger picture", async () => (await bounds(scene, CANVAS)).width > 1_200);
    await page.tap(".desktop-tools >> text=Fit");
    await waitUntil("the whole picture", async () => (await bounds(scene, CANVAS)).width <= 390);
    await page.tap(".desktop-tools >> text=100 %");
    await waitUntil("its own size", async () => (await bounds(scene, CANVAS)).width === 800);
  });
});

test("in landscape the picture has nearly the height of the screen", async () => {
  await runScene(LANDSCAPE, async (scene) => {
    await openSession(scene, { lanes: ["desktop"] });
    await openDesktop(scene.page);
    const frame = await bounds(scene, ".focus-trap-frame");
    assert.ok(frame.y < 150, `the picture begins at ${frame.y}`);
    assert.ok(Math.min(390, frame.y + frame.height) - frame.y > 240, JSON.stringify(frame));
    await scene.shoot("phone-landscape");
  });
});

test("a sign-in by a link shows the link and no picture", async () => {
  await runScene(PORTRAIT, async (scene) => {
    await openSession(scene, { lanes: ["link", "desktop"], sign_in: signIn({ url: LINK }) });
    const link = await bounds(scene, ".sign-in-address a");
    assert.ok(link.y + link.height < 844, "without scrolling");
    assert.equal(await scene.page.locator(".focus-trap-frame:visible").count(), 0);
  });
});

test("a long name of a host fits the page, and an address of this computer has no code for a phone", async () => {
  const host = "anteroom-647e0d5f1c2b4a39.localhost:45119";
  const viewport = { width: 390, height: 844 };
  for (const [url, on_phone] of /** @type {const} */ ([[`http://${host}/device`, 0], [`https://${"sign-in-".repeat(7)}.example/device`, 1]])) {
    await runScene({ viewport }, async (scene) => {
      const { page, shoot } = scene;
      await openSession(scene, { sign_in: signIn({ url, device_code: "ABCD-12345" }) });
      const link = await bounds(scene, ".sign-in-address a");
      assert.ok(link.x >= 0 && link.x + link.width <= 390, JSON.stringify(link));
      assert.ok(!(await page.evaluate(() => document.documentElement.scrollWidth > 390)), "the page does not scroll sideways");
      assert.equal(await page.locator(".on-phone").count(), on_phone);
      assert.equal(await page.locator("text=No code for your phone: anteroom-647e0d5f1c2b4a39.localhost leads").count(), 1 - on_phone);
      await shoot(`phone-host-${on_phone}`);
    });
  }
});

test("no picture of a pointer stays on the glass", async () => {
  await runScene(PORTRAIT, async (scene) => {
    const { page } = scene;
    await openSession(scene, { lanes: ["desktop"] });
    await openDesktop(page);
    const { y } = await bounds(scene, ".focus-trap-frame");
    await page.touchscreen.tap(195, y + 60);
    await waitUntil("the tap", () => scene.fakeServer.desktop()?.clicks.length);
    assert.equal(await page.locator("body > canvas:visible").count(), 0);
  });
});

test("the desktop alone has the on-screen keyboard and the keys", async () => {
  await runScene(PORTRAIT, async (scene) => {
    const { page, fakeServer, base, shoot } = scene;
    const session = fakeServer.add({ status: "authenticating" });
    await page.goto(`${base}/api/auth/session/${session.id}/novnc`);
    await desktopShows(page);
    await page.tap(".keys-bar >> text=Keyboard");
    await page.keyboard.insertText("hé");
    await page.tap(".keys-bar >> text=Enter");
    await waitUntil("the keys", () => (fakeServer.desktop()?.keys.length ?? 0) >= 5);
    // Control and é: the machine gets a key for é before it is typed.
    assert.deepEqual(fakeServer.desktop()?.keys, [0xffe3, 0xe9, 0x68, 0xe9, 0xff0d]);
    assert.equal(await page.evaluate(() => document.activeElement?.tagName), "TEXTAREA", "the keyboard stays open");
    await shoot("phone-desktop-page");
  });
});

/** Where a point of the desktop is in the viewport. @param {import("./scene.mjs").Scene} scene @param {number} x @param {number} y */
async function onPage(scene, x, y) {
  const box = await bounds(scene, CANVAS);
  return [box.x + (x * box.width) / 800, box.y + (y * box.height) / 500];
}

/** Checks that a point of the desktop is in the frame and in the viewport. @param {import("./scene.mjs").Scene} scene @param {number} x @param {number} y */
async function assertInView(scene, x, y) {
  const [[at_x = 0, at_y = 0], frame] = [await onPage(scene, x, y), await bounds(scene, ".focus-trap-frame")];
  const { height = 0 } = scene.page.viewportSize() ?? {};
  assert.ok(at_x > 0 && at_x < 390, `${at_x}`);
  assert.ok(at_y > Math.max(frame.y, 0) && at_y < Math.min(frame.y + frame.height, height), `${at_y} in ${JSON.stringify(frame)}`);
}

test("the tapped place becomes legible and stays in view while the on-screen keyboard is open, with the keys above it", async () => {
  await runScene(PORTRAIT, async (scene) => {
    const { page, fakeServer, shoot } = scene;
    await openSession(scene, { lanes: ["desktop"] });
    await desktopShows(page);
    await page.tap(".desktop-tools >> text=Fit");
    await waitUntil("the whole picture", async () => (await bounds(scene, CANVAS)).width <= 390);
    const [x = 0, y = 0] = await onPage(scene, 700, 420);
    await page.touchscreen.tap(x, y);
    await waitUntil("the tap", () => fakeServer.desktop()?.clicks.length);
    assert.ok((await bounds(scene, CANVAS)).width <= 390, "a tap alone moves nothing");
    await page.tap(".keys-bar >> text=Keyboard");
    await waitUntil("a legible picture", async () => (await bounds(scene, CANVAS)).width === 800);
    await assertInView(scene, 700, 420);
    // As Android does when its keyboard opens.
    await page.setViewportSize({ width: 390, height: 470 });
    await waitUntil("the keys", async () => {
      const keys = await bounds(scene, ".desktop-tools .keys-bar");
      return keys.y > 0 && keys.y + keys.height <= 471;
    });
    await assertInView(scene, 700, 420);
    await shoot("phone-keyboard");
    const frame = await bounds(scene, ".focus-trap-frame");
    const before = await scrolled(scene);
    await page.touchscreen.tap(150, Math.max(frame.y, 0) + 60);
    const at = await waitUntil("the second tap", () => fakeServer.desktop()?.clicks[1]);
    await page.keyboard.insertText("x");
    await waitUntil("the key", () => fakeServer.desktop()?.keys.at(-1) === 0x78);
    await assertInView(scene, at.x, at.y);
    assert.deepEqual(await scrolled(scene), before, "a place that is in view stays where it is");
    await page.touchscreen.tap(6, Math.max(frame.y, 0) + 60);
    const edge = await waitUntil("the third tap", () => fakeServer.desktop()?.clicks[2]);
    await waitUntil("the place at the border to move", async () => (await onPage(scene, edge.x, edge.y))[0] !== undefined && (await scrolled(scene))[0] !== before[0]);
    await assertInView(scene, edge.x, edge.y);
  });
});

test("the keys of the terminal are above the on-screen keyboard", async () => {
  await runScene(PORTRAIT, async (scene) => {
    const { page, shoot } = scene;
    await openSession(scene, { lanes: ["terminal"] });
    await page.locator(".xterm-rows > div", { hasText: "codex login" }).waitFor();
    await page.tap("#terminal-tools >> text=Keyboard");
    await page.setViewportSize({ width: 390, height: 470 });
    await waitUntil("the keys", async () => {
      const keys = await bounds(scene, "#terminal-tools .keys-bar");
      return keys.y > 0 && keys.y + keys.height <= 471;
    });
    const frame = await bounds(scene, "#panel-terminal .focus-trap-frame");
    assert.ok(frame.y + frame.height > 200, JSON.stringify(frame));
    await shoot("phone-terminal-keyboard");
  });
});

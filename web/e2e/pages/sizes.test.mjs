// The states of a person's pages at four sizes of the window, and a sign-in at each: by keyboard alone, or by touch.

import assert from "node:assert/strict";
import { join } from "node:path";
import test from "node:test";
import { tabTo, waitUntil } from "../browser.mjs";
import { resultsDirectory } from "../results.mjs";
import { layoutFaults } from "./layout.mjs";
import { desktopShows, runScene, statusIs } from "./scene.mjs";
import { CODE, sessionShows, SIGN_IN_STATES } from "./sign-in-states.mjs";

/** @typedef {import("./scene.mjs").Scene} Scene */

const TOUCH = { hasTouch: true, isMobile: true };
/** @type {Record<string, import("playwright-core").BrowserContextOptions>} */
const SIZES = {
  "1280x800": { viewport: { width: 1280, height: 800 } },
  "390x844": { viewport: { width: 390, height: 844 }, ...TOUCH },
  "844x390": { viewport: { width: 844, height: 390 }, ...TOUCH },
  "2560x1300": { viewport: { width: 2560, height: 1300 } },
};
const LARGE = "2560x1300";

test("the check of the layout finds a wide page, a low button, a covered control and a small target", async () => {
  await runScene({ viewport: { width: 400, height: 300 } }, async ({ page, base }) => {
    await page.goto(`${base}/dashboard/remote-cli/auth`);
    await page.evaluate(() => {
      document.body.innerHTML = "<main><h1>Faults</h1><div id='wide'>wide</div><button id='small'>s</button><button id='low' class='primary'>low</button><p id='over'>over</p></main>";
      const style = (/** @type {string} */ id, /** @type {Partial<CSSStyleDeclaration>} */ part) => Object.assign(document.getElementById(id)?.style ?? {}, part);
      style("wide", { width: "900px" });
      style("small", { display: "block", width: "12px", height: "12px", minHeight: "0", padding: "0" });
      style("low", { position: "absolute", top: "400px", left: "0", width: "100px", height: "40px" });
      style("over", { position: "absolute", top: "390px", left: "0", width: "120px", height: "90px", margin: "0" });
    });
    const faults = await layoutFaults(page);
    assert.deepEqual(faults.map((fault) => fault.replace(/\d+/g, "n").split(":")[0]), ["scrolls sideways", "below the first screen (n px)", "n × n px", 'covered by <p id="over" style="position']);
  });
});

/** The share of the window that the picture has, by its wider side. @param {Scene} scene */
async function shareOfPicture({ page }) {
  const box = await page.locator("#panel-desktop .focus-trap-frame").boundingBox();
  const window = page.viewportSize();
  assert.ok(box && window);
  return Math.max(box.width / window.width, box.height / window.height);
}

for (const [size, options] of Object.entries(SIZES)) {
  test(`${size}: no state scrolls sideways, hides its next action, covers a control or has a small target`, async () => {
    await runScene(options, async (scene) => {
      const shots = await resultsDirectory("screenshots");
      /** @type {Record<string, string[]>} */
      const faults = {};
      for (const [state, reach] of Object.entries(SIGN_IN_STATES)) {
        await reach(scene);
        faults[state] = await layoutFaults(scene.page);
        if (state === "remote-browser" && size === LARGE) assert.ok((await shareOfPicture(scene)) > 0.7, `${await shareOfPicture(scene)}`);
        await scene.page.screenshot({ path: join(shots, `size-${size}-${state}.png`) });
      }
      assert.deepEqual(faults, Object.fromEntries(Object.keys(SIGN_IN_STATES).map((state) => [state, []])));
    });
  });
}

/**
 * Signs in with a code, and types into the remote browser in between.
 * @param {Scene} scene
 * @param {(selector: string) => Promise<void>} press
 * @param {() => Promise<void>} typeIntoDesktop types an `x`
 */
async function signInWith(scene, press, typeIntoDesktop) {
  const { page, fakeServer, base } = scene;
  fakeServer.consent = "required";
  await page.goto(`${base}/dashboard/remote-cli`);
  await press("[data-provider=codex]");
  await page.waitForSelector("[data-action=agree]");
  await press("[data-action=agree]");
  await sessionShows(page);
  const [id = ""] = fakeServer.sessions.keys();
  fakeServer.change(id, { status: "authenticating", sign_in: CODE });
  await page.waitForSelector("[data-device-code]");
  const opened = page.context().waitForEvent("page");
  await page.context().route("https://auth.openai.com/**", (route) => route.fulfill({ body: "sign in" }));
  await press(".sign-in-address a");
  await (await opened).close();
  await page.bringToFront();
  await typeIntoDesktop();
  await waitUntil("the key", () => fakeServer.desktop()?.keys.includes(0x78));
  fakeServer.change(id, { status: "completed", credential: fakeServer.credentials[0] ?? null });
  await statusIs(page, "completed");
}

for (const size of ["1280x800", LARGE]) {
  test(`${size}: a sign-in by keyboard alone`, async () => {
    await runScene(SIZES[size] ?? {}, async (scene) => {
      const { page } = scene;
      const press = async (/** @type {string} */ selector) => {
        await tabTo(page, selector);
        await page.keyboard.press("Enter");
      };
      await signInWith(scene, press, async () => {
        await tabTo(page, "[role=tab]", "Shift+Tab");
        while ((await page.evaluate(() => document.activeElement?.id)) !== "tab-desktop") await page.keyboard.press("ArrowRight");
        await desktopShows(page);
        await tabTo(page, ".desktop-host canvas");
        await page.keyboard.press("x");
      });
    });
  });
}

for (const size of ["390x844", "844x390"]) {
  test(`${size}: a sign-in by touch`, async () => {
    await runScene(SIZES[size] ?? {}, async (scene) => {
      const { page } = scene;
      await signInWith(scene, (selector) => page.tap(selector), async () => {
        await page.tap("#tab-desktop");
        await desktopShows(page);
        await page.tap(".desktop-host");
        await page.tap(".keys-bar >> text=Keyboard");
        await page.keyboard.insertText("x");
      });
    });
  });
}

// The states of a person's pages at four sizes of the window, and a sign-in at each: by keyboard alone, or by touch.

import assert from "node:assert/strict";
import { join } from "node:path";
import test from "node:test";
import { tabTo, waitUntil } from "../browser.mjs";
import { forPerson, inSeconds, signIn } from "../fake-server/samples.mjs";
import { resultsDirectory } from "../results.mjs";
import { layoutFaults } from "./layout.mjs";
import { desktopShows, openSession, runScene, statusIs } from "./scene.mjs";

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
const CODE = signIn({ url: "https://auth.openai.com/codex/device", device_code: "ABCD-12345", device_code_until: inSeconds(800) });
const LINK = signIn({ url: "https://claude.com/cai/oauth/authorize?client_id=x" });

/** Waits until the page shows what to do next. @param {import("playwright-core").Page} page */
const sessionShows = (page) => page.waitForSelector(".next-action");

/** Each brings the page into a state. @type {Record<string, (scene: Scene) => Promise<unknown>>} */
const STATES = {
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
    await scene.page.context().setOffline(true);
    scene.fakeServer.breakStreams();
    await scene.page.getByText("Connection lost. Reconnecting…").first().waitFor();
  },
  back: async ({ page }) => {
    await page.context().setOffline(false);
    await page.getByText("Your turn").first().waitFor();
  },
  failure: async (scene) => {
    const id = await openSession(scene, { sign_in: CODE });
    const session = scene.fakeServer.sessions.get(id);
    assert.ok(session);
    const sentence = "Codex could not reach auth.openai.com from here.";
    const for_person = forPerson(session, { situation: "host_unreachable", phase: "needs_attention", title: "This did not work", sentence, actions: ["restart_tool", "change_method"] });
    scene.fakeServer.change(id, { for_person });
    await scene.page.getByText(sentence).first().waitFor();
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
      for (const [state, reach] of Object.entries(STATES)) {
        await reach(scene);
        faults[state] = await layoutFaults(scene.page);
        if (state === "remote-browser" && size === LARGE) assert.ok((await shareOfPicture(scene)) > 0.7, `${await shareOfPicture(scene)}`);
        await scene.page.screenshot({ path: join(shots, `size-${size}-${state}.png`) });
      }
      assert.deepEqual(faults, Object.fromEntries(Object.keys(STATES).map((state) => [state, []])));
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

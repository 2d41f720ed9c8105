// What the page says in each situation, what it offers, and the colour of its lamp.

import assert from "node:assert/strict";
import test from "node:test";
import { waitUntil } from "../browser.mjs";
import { CODEX_METHODS, forPerson, signIn } from "../fake-server/samples.mjs";
import { accessibilityFaults } from "./accessibility.mjs";
import { desktopShows, openSession, PHONE, runScene } from "./scene.mjs";

const DEMO = /** @type {const} */ ({
  provider: "demo",
  provider_name: "Demo",
  next_action: "Sign in under any name in the remote browser, then allow access. No account is needed.",
});
const DEMO_URL = "http://id.anteroom.test/authorize?client_id=demo&redirect_uri=http%3A%2F%2F127.0.0.1%3A41234%2Fcallback";
/** @typedef {Partial<import("../../src/api.ts").ForPerson>} Situation */

const LAMPS = { working: "--soft", your_turn: "--busy", needs_attention: "--attention", failed: "--bad", connected: "--good" };

/** The colours of the lamp and of this custom property. @param {import("playwright-core").Page} page @param {string} property */
async function lampAndColour(page, property) {
  return page.evaluate((name) => {
    const lamp = document.querySelector(".status-light");
    const sample = document.createElement("span");
    sample.className = "sample";
    document.body.append(sample);
    sample.style.setProperty("background", `var(${name})`);
    const colours = [lamp === null ? "" : getComputedStyle(lamp).backgroundColor, getComputedStyle(sample).backgroundColor];
    sample.remove();
    return colours;
  }, property);
}

/**
 * Opens a session in this situation.
 * @param {import("./scene.mjs").Scene} scene
 * @param {Situation} situation
 * @param {Partial<import("../fake-server/samples.mjs").Session>} [part]
 */
async function openSituation(scene, situation, part = {}) {
  const id = await openSession(scene, { status: "vm_started", ...part });
  const session = /** @type {import("../fake-server/samples.mjs").Session} */ (scene.fakeServer.sessions.get(id));
  scene.fakeServer.change(id, { for_person: forPerson(session, situation) });
  await scene.page.waitForSelector(`.next-action[data-situation=${situation.situation}]`);
  return id;
}

/** @type {Situation} */
const UNREACHABLE = {
  situation: "host_unreachable",
  phase: "needs_attention",
  title: "Codex has no connection",
  sentence: "Codex could not reach auth.openai.com from here. Try again, or tell Acme.",
  actions: ["restart_tool", "change_method"],
};

test("the demo's sign-in page opens only in the remote browser", async () => {
  await runScene({ viewport: PHONE }, async (scene) => {
    const { page, shoot } = scene;
    await openSession(scene, { ...DEMO, lanes: ["desktop"], sign_in: signIn({ url: DEMO_URL, browser_url: DEMO_URL }) });
    await page.waitForSelector(".next-action >> text=in the remote browser");
    assert.equal(await page.locator(`a[href*="id.anteroom.test"], svg.qr, .copy, #paste-code`).count(), 0, "no link that leads nowhere");
    assert.deepEqual(await page.locator("[role=tab]").allTextContents(), ["Remote browser"]);
    await desktopShows(page);
    await shoot("situation-demo");
  });
});

test("after a successful exit the page saves the sign-in and offers nothing to press", async () => {
  await runScene({}, async (scene) => {
    const { page, shoot } = scene;
    /** @type {Situation} */
    const saving = { situation: "saving", phase: "working", title: "You are signed in. Saving it…", sentence: "Please keep this page open for a moment.", actions: [] };
    await openSituation(scene, saving, { ...DEMO, lanes: ["desktop"] });
    assert.equal(await page.textContent(".status-title"), "You are signed in. Saving it…");
    assert.equal(await page.locator(".next-action button, .next-action a").count(), 0);
    assert.match((await page.textContent(".steps .current")) ?? "", /Saving/);
    await shoot("situation-saving");
  });
});

test("an unreachable provider is named, the dead link is withdrawn, and the tool is started again", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, shoot } = scene;
    /** @type {import("../../src/api.ts").MethodView[]} */
    const methods = [{ id: "default", label: "With a code", lanes: ["device_code"] }, ...CODEX_METHODS];
    const sign_in = signIn({ url: "https://auth.openai.com/codex/device", device_code: "ABCD-12345", failed: "error sending request for url" });
    await openSituation(scene, UNREACHABLE, { methods, sign_in });
    assert.equal(await page.textContent(".for-person"), UNREACHABLE.sentence);
    assert.equal(await page.locator(".sign-in-address, .device-code").count(), 0);
    assert.equal(await page.isVisible("text=error sending request"), false, "the tool's own text is folded");
    assert.deepEqual(await accessibilityFaults(page), []);
    assert.equal(await page.locator("[data-report]").count(), 1, "the number of the report");
    await shoot("situation-unreachable");
    await page.click("[data-action=another-way]");
    await page.waitForSelector("[data-method=api_key]");
    await page.click("[data-action=try-again]");
    const call = await waitUntil("the restart of the tool", () => fakeServer.requests.find((one) => one.path.endsWith("/method")));
    assert.deepEqual(call.body, { method: "default" });
  });
});

/** @type {import("../../src/api.ts").RemoteBrowserState} */
const PAGE_OPENING = {
  situation: "page_opening",
  phase: "working",
  title: "Opening the sign-in page…",
  sentence: "The remote browser is opening a page of auth.openai.com.",
  host: "auth.openai.com",
  actions: ["reopen_page"],
  since: null,
  usual_s: 3,
};
/** @type {import("../../src/api.ts").RemoteBrowserState} */
const PAGE_UNREACHABLE = {
  ...PAGE_OPENING,
  situation: "page_unreachable",
  phase: "needs_attention",
  title: "The sign-in page cannot be reached",
  sentence: "The remote browser cannot reach auth.openai.com from here. Try again, or tell Acme.",
  actions: ["reopen_page", "change_method"],
};

test("the tab of the remote browser says why the person can do nothing there, and the other tab goes on", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, shoot } = scene;
    const url = "https://auth.openai.com/oauth/authorize?redirect_uri=http%3A%2F%2Flocalhost%3A1455%2Fauth%2Fcallback&state=s";
    /** @type {import("../../src/api.ts").MethodView[]} */
    const methods = [{ id: "device_code", label: "With a code", lanes: ["device_code"] }, ...CODEX_METHODS];
    const sign_in = signIn({ url, browser_url: url });
    const id = await openSession(scene, { status: "vm_started", method: "browser", methods, lanes: ["desktop", "link", "terminal"], sign_in });
    const session = /** @type {import("../fake-server/samples.mjs").Session} */ (fakeServer.sessions.get(id));
    const show = (/** @type {Situation} */ part) => fakeServer.change(id, { for_person: forPerson(session, part) });
    show({ remote_browser: { ...PAGE_OPENING, since: new Date(Date.now() - 4_000).toISOString() } });
    await page.waitForSelector(".status >> text=Opening the sign-in page…");
    assert.match((await page.textContent(".starting-tool")) ?? "", /[3-9] seconds \(usually 3 seconds\)/);
    assert.doesNotMatch((await page.textContent("main")) ?? "", /Your turn|Waiting for you: now/);
    assert.deepEqual(await accessibilityFaults(page), []);
    await shoot("situation-page-opening");
    show({ remote_browser: PAGE_UNREACHABLE, actions: ["open_link", "use_terminal"], other_methods: ["device_code"] });
    await page.waitForSelector(".status >> text=The sign-in page cannot be reached");
    assert.equal(await page.textContent(".next-action .for-person"), PAGE_UNREACHABLE.sentence);
    assert.deepEqual(await accessibilityFaults(page), []);
    await shoot("situation-page-unreachable");
    await page.click("[data-action=try-again]");
    const call = await waitUntil("the page is opened again", () => fakeServer.requests.find((one) => one.path.endsWith("/open-url")));
    assert.deepEqual(call.body, { url });
    await page.click("[data-action=another-way]");
    await page.waitForSelector("#other-methods [data-method=device_code]");
    assert.equal(await page.locator("#other-methods [data-method=api_key]").count(), 0, "only the ways that the server names");
    await page.click("#tab-own");
    await page.waitForSelector(".status >> text=Your turn");
    await page.waitForSelector(".sign-in-address a");
    assert.equal(await page.locator("[data-action=use-desktop]").count(), 0, "the machine does not reach that page");
    await page.click("#tab-desktop");
    show({});
    await page.waitForSelector(".status >> text=Your turn");
    assert.equal(await page.locator("[data-action=try-again]").count(), 0);
  });
});

test("a person who declined is not shown a success", async () => {
  await runScene({ viewport: PHONE }, async (scene) => {
    const { page, shoot } = scene;
    /** @type {Situation} */
    const declined = {
      situation: "declined",
      phase: "needs_attention",
      title: "Not allowed",
      sentence: "You chose not to allow access. Try again if that was a mistake.",
      actions: ["restart_tool"],
    };
    await openSituation(scene, declined, { ...DEMO, lanes: ["desktop"] });
    assert.equal(await page.textContent(".for-person"), declined.sentence);
    assert.equal(await page.textContent(".next-action button.primary"), "Try again");
    await shoot("situation-declined");
  });
});

test("while a tool starts, the page counts the seconds and shows the usual time", async () => {
  await runScene({}, async (scene) => {
    const { page, shoot } = scene;
    const since = new Date(Date.now() - 4_000).toISOString();
    /** @type {Situation} */
    const starting = { situation: "tool_starting", phase: "working", title: "Starting Codex…", sentence: "", actions: ["replace_machine"] };
    await openSituation(scene, { ...starting, since, usual_s: 5 });
    assert.match((await page.textContent(".starting-tool")) ?? "", /[3-9] seconds \(usually 5 seconds\)/);
    assert.equal(await page.locator("[data-action=try-again]").count(), 0);
    assert.doesNotMatch((await page.textContent(".next-action")) ?? "", /Open the link/);
    await shoot("situation-starting");
  });
});

test("a tool that starts slowly can be started again", async () => {
  await runScene({}, async (scene) => {
    const since = new Date(Date.now() - 60_000).toISOString();
    await openSituation(scene, { situation: "tool_starting", phase: "working", title: "Starting Codex…", sentence: "", actions: ["replace_machine"], since, usual_s: null });
    await scene.page.waitForSelector("text=This takes longer than usual.");
    await scene.page.click("[data-action=try-again]");
    await waitUntil("another machine", () => scene.fakeServer.requests.find((one) => one.path.endsWith("/restart")));
  });
});

test("the lamp is green only when connected, and grey while the server does not answer", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    const id = await openSession(scene);
    const session = /** @type {import("../fake-server/samples.mjs").Session} */ (fakeServer.sessions.get(id));
    for (const [phase, property] of Object.entries(LAMPS)) {
      fakeServer.change(id, { for_person: forPerson(session, { phase: /** @type {any} */ (phase) }) });
      await page.waitForSelector(`.status[data-phase=${phase}]`);
      const [lamp, colour] = await lampAndColour(page, property);
      assert.equal(lamp, colour, phase);
    }
    await page.route("**/api/auth/session/**", (route) => route.abort());
    fakeServer.breakStreams();
    await page.waitForSelector(".status >> text=Connection lost. Reconnecting…");
    const [lamp, grey] = await lampAndColour(page, "--soft");
    assert.equal(lamp, grey);
    await page.unroute("**/api/auth/session/**");
    await page.waitForSelector(".status >> text=Your turn");
  });
});

test("a session closes visibly in its last minutes and is kept open by a button", async () => {
  await runScene({ viewport: PHONE }, async (scene) => {
    const { page, fakeServer, shoot } = scene;
    fakeServer.idle_ms_max = 200_000;
    const id = await openSession(scene, { deadline_at: new Date(Date.now() + 3_600_000).toISOString() });
    await page.waitForSelector("[data-notice=closing-soon] >> text=/Closes in 3:\\d\\d/");
    assert.equal(await page.locator("[data-notice=closing-soon] time").count(), 1, "the total time is not nearly over");
    await shoot("situation-closing-soon");
    fakeServer.idle_ms_max = 600_000;
    await page.click("[data-action=keep-open]");
    await page.waitForSelector("[data-notice=closing-soon]", { state: "detached" });
    assert.ok(Date.parse(fakeServer.sessions.get(id)?.idle_deadline_at ?? "") > Date.now() + 500_000);
  });
});

test("a waiting session shows its place and not its end", async () => {
  await runScene({}, async (scene) => {
    const { page, shoot } = scene;
    /** @type {Situation} */
    const queued = { situation: "queued", phase: "working", title: "Waiting for a free computer", sentence: "You are next. About 2 minutes.", actions: [] };
    await openSituation(scene, queued, { status: "vm_creating", queue_position: 1, deadline_at: new Date(Date.now() + 60_000).toISOString() });
    assert.equal(await page.textContent(".for-person"), "You are next. About 2 minutes.");
    assert.equal(await page.locator("[data-notice=closing-soon]").count(), 0);
    await shoot("situation-queued");
  });
});

test("a sign-in that could not be saved is not claimed to be, and has a number to report", async () => {
  await runScene({ viewport: PHONE }, async (scene) => {
    const { page } = scene;
    const situation = /** @type {Situation} */ ({
      situation: "not_saved",
      phase: "failed",
      title: "Your sign-in could not be saved",
      sentence: "Codex took your sign-in, but it could not be saved here. Tell Acme.",
      actions: ["restart_tool", "change_method"],
    });
    for (const lanes of /** @type {const} */ ([["device_code", "terminal"], ["terminal"]])) {
      const id = await openSituation(scene, situation, { lanes: [...lanes] });
      await page.waitForSelector(`[data-report="${id}"]`);
      const text = (await page.textContent(".next-action")) ?? "";
      assert.match(text, /could not be saved here\. Tell Acme\./);
      assert.doesNotMatch((await page.textContent("main")) ?? "", /Checking your sign-in|You are signed in/);
      assert.deepEqual(await accessibilityFaults(page), []);
    }
  });
});

test("a refused account is led to another way first, an expired code to a new one", async () => {
  await runScene({ viewport: PHONE }, async (scene) => {
    const { page } = scene;
    await openSituation(
      scene,
      {
        situation: "account_refused",
        phase: "needs_attention",
        title: "Not possible with this account",
        sentence: "Codex does not let this account sign in this way. Another way or another account may work.",
        actions: ["change_method", "restart_tool"],
      },
      { methods: CODEX_METHODS },
    );
    const buttons = page.locator(".failure-actions button");
    assert.deepEqual(await buttons.evaluateAll((found) => found.map((button) => [button.dataset.action, button.classList.contains("primary")])), [
      ["another-way", true],
      ["try-again", false],
    ]);
    await openSituation(scene, {
      situation: "code_expired",
      phase: "needs_attention",
      title: "The code is no longer valid",
      sentence: "Codex did not accept the code, or its time is up. Get a new code.",
      actions: ["restart_tool"],
    });
    assert.deepEqual(await buttons.allTextContents(), ["Get a new code"]);
  });
});

test("a code that was not recognized leads to the terminal, and an answer that is checked asks for nothing", async () => {
  await runScene({}, async (scene) => {
    const { page } = scene;
    const url = "https://auth.openai.com/codex/device";
    await openSituation(
      scene,
      {
        situation: "code_in_terminal",
        phase: "your_turn",
        title: "The code is in the terminal",
        sentence: "Codex shows the code in its terminal. Open the terminal and copy the code from there.",
        actions: ["use_terminal", "open_link"],
      },
      { lanes: ["device_code", "terminal"], sign_in: signIn({ url }) },
    );
    assert.equal(await page.locator(".blank-code").count(), 0);
    await page.click("[data-action=use-terminal]");
    await page.waitForSelector("#tab-terminal[aria-selected=true]");
    await openSituation(
      scene,
      {
        situation: "checking",
        phase: "working",
        title: "Codex is checking…",
        sentence: "Codex is checking what you sent. Please keep this page open.",
        actions: [],
      },
      { lanes: ["link", "terminal"], sign_in: signIn({ url }) },
    );
    assert.equal(await page.locator(".paste-box").count(), 0);
    assert.match((await page.textContent(".waiting-line")) ?? "", /checking what you sent/);
  });
});

// The operators' pages: accessible in every state, operated by the keyboard alone, current without a reload, errors where the action was.

import assert from "node:assert/strict";
import test from "node:test";
import { waitUntil } from "../browser.mjs";
import { forPerson } from "../fake-server/samples.mjs";
import { accessibilityFaults, lowContrastTexts } from "./accessibility.mjs";
import { ADMIN_STATES, addSessions, clusterOfFour } from "./admin-states.mjs";
import { runScene } from "./scene.mjs";

const LAPTOP = { viewport: { width: 1280, height: 800 } };
const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };

for (const [device, options] of /** @type {const} */ ([
  ["laptop-light", { ...LAPTOP, colorScheme: "light" }],
  ["phone-dark", { ...PHONE, colorScheme: "dark" }],
])) {
  test(`${device}: every state of the operators' pages is accessible`, async () => {
    for (const [name, open] of Object.entries(ADMIN_STATES)) {
      await runScene(options, async (scene) => {
        await open(scene, addSessions(scene));
        await scene.shoot(`admin-${name}-${device}`);
        assert.deepEqual(await accessibilityFaults(scene.page), [], name);
        assert.deepEqual(await lowContrastTexts(scene.page), [], name);
      });
    }
  });
}

/** Presses Tab until the focused element matches. @param {import("playwright-core").Page} page @param {string} selector */
async function tabTo(page, selector) {
  for (let count = 0; count < 120; count += 1) {
    await page.keyboard.press("Tab");
    if (await page.evaluate((wanted) => document.activeElement?.matches(wanted) ?? false, selector)) return;
  }
  assert.fail(`Tab does not reach ${selector}`);
}

/** @param {import("playwright-core").Page} page @param {string} action of the button that opened the dialog */
async function focusReturns(page, action) {
  await waitUntil(`the focus on ${action}`, () => page.evaluate((wanted) => document.activeElement?.getAttribute("data-action") === wanted, action));
}

test("the keyboard alone finds a session, stops it, makes a link, creates a token and rotates it", async () => {
  await runScene(LAPTOP, async (scene) => {
    const { page, fakeServer, base } = scene;
    const id = addSessions(scene);
    await page.goto(`${base}/admin`);
    await page.waitForSelector("tr[data-session]");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement?.className), "skip-link");
    await tabTo(page, "[name=find]");
    // As a person's page shows it: the number of a report.
    await page.keyboard.type(id.replace("ses_", ""));
    await page.keyboard.press("Enter");
    await page.waitForSelector("p[data-verdict]");
    await tabTo(page, "[data-action=link]");
    await page.keyboard.press("Enter");
    await page.waitForSelector("dialog[open]");
    await tabTo(page, "dialog .danger");
    await page.keyboard.press("Enter");
    await page.waitForSelector("[data-link]");
    await focusReturns(page, "link");
    await tabTo(page, "[data-action=stop]");
    await page.keyboard.press("Enter");
    await page.waitForSelector("dialog[open]");
    await page.keyboard.press("Escape");
    await focusReturns(page, "stop");
    assert.equal(fakeServer.sessions.get(id)?.status, "authenticating", "Escape keeps it");
    await page.keyboard.press("Enter");
    await page.waitForSelector("dialog[open]");
    await tabTo(page, "dialog .danger");
    await page.keyboard.press("Enter");
    await waitUntil("the end", () => fakeServer.sessions.get(id)?.status === "cancelled");
    await page.goto(`${base}/admin/callers`);
    await page.waitForSelector("tr[data-caller]");
    await tabTo(page, "summary");
    await page.keyboard.press("Enter");
    await tabTo(page, "[name=name]");
    await page.keyboard.type("reports");
    await page.keyboard.press("Enter");
    await page.waitForSelector("[data-created]");
    await waitUntil("the focus on the secret", () => page.evaluate(() => document.activeElement?.id === "new-secret"));
  });
});

for (const [language, options] of /** @type {const} */ ([
  ["English", LAPTOP],
  ["German", { ...PHONE, locale: "de-DE" }],
])) {
  test(`${language}: the hosts of a cluster are listed with their states, and follow changes`, async () => {
    await runScene(options, async (scene) => {
      const { page, fakeServer, base } = scene;
      await page.goto(`${base}/admin/machines`);
      await page.waitForSelector("#machines");
      assert.equal(await page.locator("#cluster-hosts").count(), 0, "a server that is alone has no hosts");
      await ADMIN_STATES["machines-of-hosts"]?.(scene, addSessions(scene));
      const cells = (/** @type {string} */ name) => page.locator(`tr[data-host="${name}"] td`).allInnerTexts();
      assert.deepEqual((await cells("host-1")).slice(0, 5), ["host-1", "answers (this host)", "3", "3 of 10", "0.1.0"]);
      assert.deepEqual((await cells("host-2")).slice(1, 4), ["answers drains", "1", "1 of 10"]);
      assert.deepEqual((await cells("host-3")).slice(1, 5), ["silent", "3", "–", "–"]);
      assert.deepEqual((await cells("host-4")).slice(1), ["fenced", "0", "–", "–", "–"]);
      assert.equal(await page.locator("tr[data-host] .state.bad").count(), 2);
      // Operators' pages are in English alone.
      assert.equal(await page.getAttribute("html", "lang"), "en");
      const { scroll, width } = await page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, width: window.innerWidth }));
      assert.ok(scroll <= width, `${scroll} in ${width}`);
      const later = clusterOfFour();
      for (const host of later.hosts) host.state = "answers";
      fakeServer.admin.cluster = later;
      await waitUntil("the new states", async () => (await page.locator("tr[data-host] .state.bad").count()) === 0);
    });
  });
}

test("a live session whose sign-in has failed is listed with the cause", async () => {
  await runScene(LAPTOP, async (scene) => {
    const { page, fakeServer, base } = scene;
    const id = addSessions(scene);
    await page.goto(`${base}/admin/sessions`);
    await page.waitForSelector(`tr[data-session="${id}"] .state`);
    const session = fakeServer.sessions.get(id);
    assert.ok(session);
    fakeServer.change(id, { for_person: forPerson(session, { situation: "host_unreachable", phase: "needs_attention" }) });
    await page.waitForSelector(`tr[data-session="${id}"] .state.warn`);
    assert.equal(await page.textContent(`tr[data-session="${id}"] .state`), "Host unreachable");
  });
});

test("the secret of a token is shown once, copied by its button, and stored nowhere", async () => {
  await runScene({ ...LAPTOP, permissions: ["clipboard-read", "clipboard-write"] }, async (scene) => {
    const { page, base } = scene;
    await ADMIN_STATES["token-created"]?.(scene, addSessions(scene));
    const secret = (await page.textContent("[data-secret]")) ?? "";
    assert.match(secret, /^tok_/);
    await page.click(".new-secret button:has-text('Copy')");
    await waitUntil("the copy", async () => (await page.evaluate(() => navigator.clipboard.readText())) === secret);
    assert.ok(await page.locator("tr[data-caller=reports]").count(), "the token is listed");
    await page.click("text=I have it");
    assert.ok(!(await page.content()).includes(secret));
    const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, window.location.href, window.history.state]));
    assert.ok(!kept.includes(secret), kept);
    await page.click("tr[data-caller=reports] button:has-text('Rotate')");
    await page.click("form.fields button[type=submit]");
    await waitUntil("another secret", async () => ![secret, null].includes(await page.textContent("[data-secret]").catch(() => null)));
    await page.goto(`${base}/admin`);
    await page.goBack();
    await page.waitForSelector("tr[data-caller]");
    assert.equal(await page.locator("[data-secret]").count(), 0);
  });
});

test("a new link, a stop and a replacement happen only after a confirmation, and a rejection is shown where it was started", async () => {
  await runScene(LAPTOP, async (scene) => {
    const { page, fakeServer, base } = scene;
    const id = addSessions(scene);
    await page.goto(`${base}/admin/sessions/${id}`);
    for (const [action, path] of /** @type {const} */ ([["link", "links"], ["replace", "restart"], ["stop", "cancel"]])) {
      await page.click(`[data-action=${action}]`);
      await page.click("dialog button:not(.danger)");
      fakeServer.admin.rejects_with = "internal";
      await page.click(`[data-action=${action}]`);
      await page.waitForSelector("dialog[open]");
      const sent = () => fakeServer.requests.filter((request) => request.path.endsWith(`/${path}`)).length;
      assert.equal(sent(), 0, action);
      await page.click("dialog button.danger");
      await page.waitForSelector(".page-actions + .action-problem [data-problem=internal]");
      assert.equal(sent(), 1, action);
    }
    await page.goto(`${base}/admin`);
    fakeServer.admin.rejects_with = "internal";
    await page.click(`tr[data-session="${id}"] button`);
    await page.click("dialog button.danger");
    await page.waitForSelector(`tr[data-session="${id}"] + .row-problem [data-problem=internal]`);
  });
});

test("one event stream serves all pages, continues after a break with Last-Event-ID, and is current at once when the network is back", async () => {
  await runScene(LAPTOP, async (scene) => {
    const { page, fakeServer, base } = scene;
    const id = addSessions(scene);
    /** @type {(string | null)[]} */
    const opened = [];
    page.on("request", (request) => {
      if (request.url().endsWith("/api/sessions/events")) void request.headerValue("last-event-id").then((value) => opened.push(value));
    });
    await page.goto(`${base}/admin/sessions?state=active`);
    await page.waitForSelector(".live-mark.on");
    await page.evaluate(() => Object.assign(window, { is_same_document: true }));
    await page.click("nav a:text-is('Machines')");
    await page.waitForSelector(`[data-of="${id}"]`);
    await page.click("nav a:text-is('Overview')");
    await page.waitForSelector(`tr[data-session="${id}"]`);
    assert.deepEqual(opened, [null]);
    fakeServer.change(id, { viewers: 7 });
    await page.waitForSelector(`tr[data-session="${id}"] td:text-is("7")`);

    fakeServer.admin.breakStreams();
    fakeServer.change(id, { viewers: 8 });
    await page.waitForSelector(`tr[data-session="${id}"] td:text-is("8")`);
    await waitUntil("a stream that continues", () => opened.length === 2);
    assert.match(opened[1] ?? "", /^\d+$/, "the last event is named");

    // A read that the network fails is repeated: its event does not come again.
    const active = "**/api/sessions?state=active*";
    await page.route(active, (route) => route.abort());
    const third = fakeServer.add({ status: "authenticating", user_id: "third-person" });
    await page.waitForSelector("[data-problem=server_unreachable]");
    assert.ok(await page.isVisible(`tr[data-session="${id}"]`), "the last list stays");
    await page.unroute(active);
    await page.waitForSelector(`tr[data-session="${third.id}"]`);
    await page.waitForSelector("[data-problem=server_unreachable]", { state: "detached" });

    await page.context().setOffline(true);
    await page.waitForSelector(".live-mark.off");
    fakeServer.change(id, { status: "completed", ended_at: new Date().toISOString() });
    const other = fakeServer.add({ status: "authenticating", user_id: "new-person" });
    await page.context().setOffline(false);
    await page.waitForSelector(".live-mark.on");
    await page.waitForSelector(`tr[data-session="${other.id}"]`);
    await page.waitForSelector(`tr[data-session="${id}"]`, { state: "detached" });
    assert.ok(await page.evaluate(() => /** @type {any} */ (window).is_same_document), "no reload");
  });
});

test("changes of the live list are announced by no live region", async () => {
  await runScene(LAPTOP, async (scene) => {
    const { page, fakeServer, base } = scene;
    const id = addSessions(scene);
    await page.goto(`${base}/admin`);
    await page.waitForSelector(`tr[data-session="${id}"]`);
    await page.waitForSelector(".live-mark.on");
    await page.evaluate(() => {
      const announced = /** @type {string[]} */ ([]);
      Object.assign(window, { announced });
      new MutationObserver((changes) => {
        for (const { target } of changes) {
          const region = (target instanceof Element ? target : target.parentElement)?.closest("[role=status], [role=alert], [role=log], [aria-live]");
          if (region !== null && region !== undefined) announced.push(region.textContent ?? "");
        }
      }).observe(document, { childList: true, subtree: true, characterData: true });
    });
    for (let viewers = 10; viewers < 15; viewers += 1) fakeServer.change(id, { viewers });
    const other = fakeServer.add({ status: "authenticating" });
    await page.waitForSelector(`tr[data-session="${id}"] td:text-is("14")`);
    await page.waitForSelector(`tr[data-session="${other.id}"]`);
    assert.deepEqual(await page.evaluate(() => /** @type {any} */ (window).announced), []);
  });
});

import assert from "node:assert/strict";
import test from "node:test";
import { CODEX_METHODS, credential, forPerson, inSeconds } from "../fake-server/samples.mjs";
import { openSession, runScene, statusIs } from "./scene.mjs";

test("the end of a sign-in names the account, if the tool's file does", async () => {
  for (const [account, sentence] of /** @type {const} */ ([
    ["ada@example.org", "Codex is connected as ada@example.org. You can close this page."],
    [null, "Codex is connected. You can close this page."],
  ])) {
    await runScene({}, async (scene) => {
      const id = await openSession(scene);
      scene.fakeServer.change(id, { status: "completed", credential: credential("crd_1", id, { account }) });
      await statusIs(scene.page, "completed");
      assert.equal(await scene.page.textContent(".ended .lead"), sentence);
    });
  }
});

/** @type {import("../../src/api.ts").MethodView[]} */
const METHODS = [{ id: "default", label: "With a code", lanes: ["device_code"] }, ...CODEX_METHODS];
const FAILED = /** @type {const} */ ({
  status: "failed",
  reason: { code: "machine_failed", sentence: "The machine ended and the session had no restart left." },
  ended_at: inSeconds(0),
});

test("after a failure, Try again repeats the method, Another way starts the same tool with another one, and the connections are one click away", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, base, shoot } = scene;
    const starts = () => fakeServer.requests.filter((call) => call.path === "/api/auth/start").map(({ body }) => [body.provider, body.method]);
    const id = await openSession(scene, { ...FAILED, methods: METHODS });
    await statusIs(page, "failed");
    await page.click("[data-action=another-way]");
    await page.waitForSelector("[data-method=api_key]:visible");
    await shoot("ended-other-methods");
    await page.click("[data-method=api_key]");
    await page.waitForURL((url) => !url.search.includes(id));
    assert.deepEqual(starts(), [["codex", "api_key"]]);
    await page.goto(`${base}/dashboard/remote-cli/auth?session=${id}`);
    await page.click("[data-action=try-again]");
    await page.waitForURL((url) => !url.search.includes(id));
    assert.deepEqual(starts()[1], ["codex", "default"]);
    await page.goto(`${base}/dashboard/remote-cli/auth?session=${id}`);
    await page.click(".ended-links >> text=Your connections");
    await page.waitForSelector("main[data-page=start] [data-provider]");
  });
});

test("Another way is absent where there is none: a tool with one method, a sign-in that was saved, a person with a link", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    await openSession(scene, FAILED);
    await page.waitForSelector("[data-action=try-again]");
    assert.equal(await page.locator("[data-action=another-way]").count(), 0);
    await openSession(scene, { status: "completed", methods: METHODS, ended_at: inSeconds(0) });
    await page.waitForSelector(".ended-links >> text=Your connections");
    assert.equal(await page.locator("[data-action=another-way]").count(), 0);
    const link = await openSession(scene, { ...FAILED, methods: METHODS });
    fakeServer.caller = { role: "viewer", name: "viewer", session: link, sign_in: "link" };
    await page.reload();
    await statusIs(page, "failed");
    assert.equal(await page.locator(".ended-links a, [data-action=another-way]").count(), 0, "a link leads to one sign-in only");
  });
});

test("the cause of a failure is shown to the person, in both languages", async () => {
  for (const [locale, sentence] of /** @type {const} */ ([
    ["en-GB", "The temporary computer was switched off from outside."],
    ["de-DE", "Der temporäre Rechner wurde von außen abgeschaltet."],
  ])) {
    await runScene({ locale }, async (scene) => {
      const id = await openSession(scene, FAILED);
      const session = /** @type {import("../fake-server/samples.mjs").Session} */ (scene.fakeServer.sessions.get(id));
      const { values } = session.for_person;
      const why = "The temporary computer was switched off from outside.";
      scene.fakeServer.change(id, { for_person: forPerson(session, { why, values: { ...values, verdict: "machine_killed" } }) });
      await scene.page.reload();
      await scene.page.locator("[data-verdict=machine_killed]", { hasText: sentence }).waitFor();
      await scene.shoot(`ended-cause-${locale}`);
    });
  }
});

test("a session that does not exist says so, and leads to the start page", async () => {
  await runScene({}, async ({ page, base, shoot }) => {
    await page.goto(`${base}/dashboard/remote-cli/auth?session=ses_01jd0000000000000000000077`);
    await page.waitForSelector("[data-problem=unknown_session]");
    assert.equal(await page.textContent("h1"), "This sign-in does not exist here");
    assert.match(await page.innerText("main"), /It was removed, or its address is not complete: check that the whole link was copied\./);
    await shoot("unknown-session");
    await page.click("main a >> text=Your connections");
    await page.waitForSelector("main[data-page=start]");
  });
});

import assert from "node:assert/strict";
import test from "node:test";
import { until } from "../browser.mjs";
import { inSeconds } from "../fake-server/samples.mjs";
import { scene } from "./scene.mjs";

test("tools are offered with their ways of signing in; one the image lacks is off, with the reason", async () => {
  await scene({}, async ({ page, fakeServer, base, shoot }) => {
    fakeServer.add({ status: "completed", user_id: "ada" });
    fakeServer.add({
      status: "failed",
      provider_name: "Claude Code",
      reason: { code: "machine_failed", sentence: "The machine ended and the session had no restart left." },
      created_at: inSeconds(-7_300),
    });
    fakeServer.add({ status: "authenticating" });
    await page.goto(`${base}/dashboard/remote-cli`);
    const card = page.locator("[data-provider=codex]");
    assert.match((await card.textContent()) ?? "", /Codex0\.169\.0.*a code you type in your own browser/s);
    const absent = page.locator("[data-provider=gemini_cli]");
    assert.equal(await absent.isDisabled(), true);
    assert.match((await absent.textContent()) ?? "", /image does not contain/);
    await shoot("pick");
  });
});

test("a double click is one session", async () => {
  await scene({}, async ({ page, fakeServer, base }) => {
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.dblclick("[data-provider=codex]");
    await page.waitForURL(/\/auth\?session=ses_/);
    assert.equal(fakeServer.sessions.size, 1);
    const keys = new Set(fakeServer.calls.filter((call) => call.path === "/api/auth/start").map((call) => call.body.idempotency_key));
    assert.equal(keys.size, 1);
    assert.match([...keys][0], /^page-[0-9a-f]{32}$/);
  });
});

test("coming back from a session, another one can be started", async () => {
  await scene({}, async ({ page, fakeServer, base }) => {
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.click("[data-provider=codex]");
    await page.waitForURL(/\/auth\?/);
    await page.goBack();
    await page.click("[data-provider=codex]");
    await page.waitForURL(/\/auth\?/);
    assert.equal(fakeServer.sessions.size, 2);
  });
});

test("a refused start says why, and the tool can be picked again", async () => {
  await scene({}, async ({ page, fakeServer, base, shoot }) => {
    fakeServer.full = true;
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.click("[data-provider=codex]");
    await page.waitForSelector("[data-problem=no_capacity]");
    await shoot("pick-refused");
    fakeServer.full = false;
    await page.click("[data-provider=codex]");
    await page.waitForURL(/\/auth\?/);
  });
});

test("a credential is deleted only after a question", async () => {
  await scene({}, async ({ page, fakeServer, base, shoot }) => {
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.click("[data-credential] >> text=Delete");
    await page.waitForSelector("dialog[open]");
    await shoot("credential-question");
    await page.keyboard.press("Escape");
    await until("the question to go", async () => (await page.locator("dialog").count()) === 0);
    assert.equal(fakeServer.credentials.length, 1);
    await page.click("[data-credential] >> text=Delete");
    await page.click("dialog button.danger");
    await until("the credential to go", async () => (await page.locator("[data-credential]").count()) === 0);
    assert.equal(fakeServer.credentials.length, 0);
  });
});

test("a credential is deleted once the tool has signed out, and kept when it has not", async () => {
  await scene({}, async ({ page, fakeServer, base }) => {
    await page.goto(`${base}/dashboard/remote-cli`);
    for (const exit_code of [4, 0]) {
      await page.click("[data-credential] >> text=Delete");
      await page.click("dialog button[data-rather]");
      const used = await until("the sign-out's session", () =>
        [...fakeServer.sessions.values()].find((one) => one.credential_use?.purpose === "logout" && one.status === "vm_creating"),
      );
      assert.equal(fakeServer.credentials.length, 1, "not before its end");
      const uses = { purpose: "logout", credential: "crd_1", exit_code };
      fakeServer.change(used.id, { status: "completed", uses });
      if (exit_code !== 0) await page.waitForSelector("text=The tool's sign-out ended with 4.");
    }
    await until("the credential to go", async () => (await page.locator("[data-credential]").count()) === 0);
    assert.equal(fakeServer.calls.filter((call) => call.method === "DELETE").length, 1);
  });
});

test("what a tool has no command for is not offered", async () => {
  await scene({}, async ({ page, fakeServer, base }) => {
    for (const provider of fakeServer.providers) Object.assign(provider, { can_check: false, can_sign_out: false });
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.click("[data-credential] >> text=Delete");
    await page.waitForSelector("dialog[open]");
    assert.equal(await page.locator("dialog button[data-rather]").count(), 0);
    await page.keyboard.press("Escape");
    assert.equal(await page.locator("[data-credential] button", { hasText: "Check" }).count(), 0);
  });
});

test("a limit of the server is said where machines are asked for", async () => {
  await scene({}, async ({ page, fakeServer, base, shoot }) => {
    fakeServer.health = {
      status: "degraded",
      version: "0.1.0",
      checks: [
        { name: "store", status: "ok", detail: "SQLite answers." },
        { name: "accelerator", status: "degraded", detail: "No usable KVM: machines are emulated, which is slow and no security boundary." },
      ],
    };
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.waitForSelector("text=no security boundary");
    assert.ok(!((await page.textContent("main")) ?? "").includes("SQLite"));
    await shoot("pick-degraded");
  });
});

test("every change the page asks for carries the header that guards against foreign pages", async () => {
  await scene({}, async ({ page, fakeServer, base }) => {
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.click("[data-provider=codex]");
    await page.waitForURL(/\/auth\?/);
    await until("a ticket", () => fakeServer.calls.some((call) => call.path.endsWith("/ticket")));
    for (const call of fakeServer.calls.filter((one) => one.method !== "GET")) {
      assert.equal(call.headers["x-anteroom"], "1", call.path);
      assert.equal(call.headers["content-type"], "application/json", call.path);
      assert.equal(call.headers.origin, base, call.path);
    }
  });
});

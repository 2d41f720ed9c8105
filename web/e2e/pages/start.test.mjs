import assert from "node:assert/strict";
import test from "node:test";
import { waitUntil } from "../browser.mjs";
import { inSeconds } from "../fake-server/samples.mjs";
import { runScene } from "./scene.mjs";

test("tools are offered with their lanes; one that the image lacks is disabled with the reason", async () => {
  await runScene({}, async ({ page, fakeServer, base, shoot }) => {
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
    assert.match((await card.textContent()) ?? "", /Codex0\.169\.0.*You sign in in your own browser\./s);
    const missing = page.locator("[data-provider=gemini_cli]");
    assert.equal(await missing.isDisabled(), true);
    assert.match((await missing.textContent()) ?? "", /image does not contain/);
    await shoot("start");
  });
});

test("a double click starts one session", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.dblclick("[data-provider=codex]");
    await page.waitForURL(/\/auth\?session=ses_/);
    assert.equal(fakeServer.sessions.size, 1);
    const keys = new Set(fakeServer.requests.filter((call) => call.path === "/api/auth/start").map((call) => call.body.idempotency_key));
    assert.equal(keys.size, 1);
    assert.match([...keys][0], /^page-[0-9a-f]{32}$/);
  });
});

test("after returning from a session, another one can be started", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.click("[data-provider=codex]");
    await page.waitForURL(/\/auth\?/);
    await page.goBack();
    await page.click("[data-provider=codex]");
    await page.waitForURL(/\/auth\?/);
    assert.equal(fakeServer.sessions.size, 2);
  });
});

test("a rejected start shows why, and can be repeated", async () => {
  await runScene({}, async ({ page, fakeServer, base, shoot }) => {
    fakeServer.at_capacity = true;
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.click("[data-provider=codex]");
    await page.waitForSelector("[data-problem=no_capacity]");
    await shoot("start-rejected");
    fakeServer.at_capacity = false;
    await page.click("[data-provider=codex]");
    await page.waitForURL(/\/auth\?/);
  });
});

test("a credential is removed only after a confirmation", async () => {
  await runScene({}, async ({ page, fakeServer, base, shoot }) => {
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.click("[data-credential] >> text=Remove");
    await page.waitForSelector("dialog[open]");
    await shoot("credential-dialog");
    await page.keyboard.press("Escape");
    await waitUntil("the dialog to close", async () => (await page.locator("dialog").count()) === 0);
    assert.equal(fakeServer.credentials.length, 1);
    await page.click("[data-credential] >> text=Remove");
    await page.click("dialog button.danger");
    await waitUntil("the credential to be removed", async () => (await page.locator("[data-credential]").count()) === 0);
    assert.equal(fakeServer.credentials.length, 0);
  });
});

test("a credential is removed after the tool has signed out, and kept if the sign-out fails", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    await page.goto(`${base}/dashboard/remote-cli`);
    for (const exit_code of [4, 0]) {
      await page.click("[data-credential] >> text=Remove");
      await page.click("dialog button[data-alternative]");
      const sign_out = await waitUntil("the sign-out's session", () =>
        [...fakeServer.sessions.values()].find((one) => one.credential_use?.purpose === "logout" && one.status === "vm_creating"),
      );
      assert.equal(fakeServer.credentials.length, 1, "not removed before the sign-out has ended");
      const credential_use = /** @type {const} */ ({ purpose: "logout", credential: "crd_1" });
      fakeServer.change(sign_out.id, { status: "completed", credential_use: { ...credential_use, exit_code } });
      if (exit_code !== 0) await page.waitForSelector("text=The tool's sign-out ended with 4.");
    }
    await waitUntil("the credential to be removed", async () => (await page.locator("[data-credential]").count()) === 0);
    assert.equal(fakeServer.requests.filter((call) => call.method === "DELETE").length, 1);
  });
});

test("a check and a sign-out are offered only if the tool has a command for them", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    for (const provider of fakeServer.providers) Object.assign(provider, { can_check: false, can_sign_out: false });
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.click("[data-credential] >> text=Remove");
    await page.waitForSelector("dialog[open]");
    assert.equal(await page.locator("dialog button[data-alternative]").count(), 0);
    await page.keyboard.press("Escape");
    assert.equal(await page.locator("[data-credential] button", { hasText: "Check" }).count(), 0);
  });
});

test("restrictions of the server are shown on the start page", async () => {
  await runScene({}, async ({ page, fakeServer, base, shoot }) => {
    fakeServer.health = {
      status: "degraded",
      version: "0.1.0",
      checks: [
        { name: "store", status: "ok", detail: "SQLite answers." },
        { name: "isolation", status: "degraded", detail: "emulated: not a security boundary; all layers of confinement are on" },
      ],
      isolation: null,
    };
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.waitForSelector("text=not a security boundary");
    assert.ok(!((await page.textContent("main")) ?? "").includes("SQLite"));
    await shoot("start-degraded");
  });
});

test("an operator sees how machines are isolated, once, and how to switch on a layer that is off", async () => {
  const landlock = { name: "Landlock", why: "the kernel has no Landlock", remedy: "boot a kernel from 6.10 with lsm=landlock" };
  const scenes = [
    { level: "strong", detail: "strong: QEMU with KVM, and all layers of confinement are on", layers_off: [] },
    { level: "partial", detail: "partial: QEMU with KVM; layers of confinement that are off: Landlock", layers_off: [landlock] },
    { level: "emulated", detail: "emulated: not a security boundary; all layers of confinement are on", layers_off: [] },
  ];
  for (const isolation of scenes) {
    await runScene({}, async ({ page, fakeServer, base, shoot }) => {
      const restricted = isolation.level !== "strong";
      fakeServer.health = {
        status: restricted ? "degraded" : "ok",
        version: "0.1.0",
        checks: [{ name: "isolation", status: restricted ? "degraded" : "ok", detail: `${isolation.detail} (machines run)` }],
        isolation,
      };
      await page.goto(`${base}/dashboard/remote-cli`);
      const note = page.locator(`[data-isolation=${isolation.level}]`);
      await note.waitFor();
      const text = (await page.textContent("main")) ?? "";
      assert.equal(text.split(isolation.detail).length, 2, "the sum is shown once");
      assert.equal(text.includes(landlock.remedy), isolation.layers_off.length > 0);
      await shoot(`start-isolation-${isolation.level}`);
    });
  }
});

test("every changing request has the header against cross-site request forgery", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.click("[data-provider=codex]");
    await page.waitForURL(/\/auth\?/);
    await waitUntil("a ticket", () => fakeServer.requests.some((call) => call.path.endsWith("/ticket")));
    for (const call of fakeServer.requests.filter((one) => one.method !== "GET")) {
      assert.match(String(call.headers["x-anteroom"]), /^[0-9a-f]{64}$/, call.path);
      assert.equal(call.headers["content-type"], "application/json", call.path);
      assert.equal(call.headers.origin, base, call.path);
    }
  });
});

test("another browser and this one are signed out on the start page", async () => {
  await runScene({}, async ({ page, fakeServer, base, shoot }) => {
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.waitForSelector("[data-browser]");
    await shoot("start-browsers");
    assert.equal(await page.locator("[data-browser]").count(), 2);
    await page.click("[data-action=sign-browser-out]");
    await waitUntil("one browser", async () => (await page.locator("[data-browser]").count()) === 1);
    assert.ok(fakeServer.requests.some((call) => call.method === "DELETE" && call.path.endsWith("0002")));
    await page.click("[data-action=log-out]");
    await page.waitForSelector("main[data-page=signed-out]");
  });
});

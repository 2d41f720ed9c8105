import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import test from "node:test";
import { waitUntil } from "../browser.mjs";
import { credential, forPerson, inSeconds } from "../fake-server/samples.mjs";
import { runScene } from "./scene.mjs";

/** @typedef {import("./scene.mjs").Scene} Scene */

/** A person who signed in with an account. */
const PERSON = /** @type {const} */ ({ role: "user", name: "Zoë", session: null, sign_in: "oidc" });
const START = "/dashboard/remote-cli";

/** Opens the menu of a connection and clicks one of its buttons. @param {import("playwright-core").Page} page @param {string} action */
async function choose(page, action) {
  await page.click("[data-credential] .more-menu > summary");
  await page.click(`[data-credential] [data-action=${action}]`);
}

test("an operator is offered tools with their lanes, first the one without an account, and those that the image lacks are folded", async () => {
  await runScene({}, async ({ page, fakeServer, base, shoot }) => {
    fakeServer.add({ status: "completed", user_id: "ada" });
    fakeServer.add({ status: "authenticating", user_id: "ada" });
    await page.goto(base + START);
    const card = page.locator("[data-provider=codex]");
    assert.match((await card.textContent()) ?? "", /Codex0\.171\.0.*You sign in in your own browser\./s);
    assert.match((await page.locator("[data-provider]").first().textContent()) ?? "", /^Demo1Try it: no account needed\.$/);
    assert.equal(await page.locator("[data-provider=gemini_cli]").count(), 0);
    assert.equal(await page.isVisible("[data-missing=gemini_cli]"), false);
    await page.click("text=Show 1 that is not installed");
    assert.match((await page.textContent("[data-missing=gemini_cli]")) ?? "", /image does not contain/);
    assert.match((await page.textContent("[data-session]")) ?? "", /for ada/);
    await shoot("start");
    await page.click("text=Operators' pages");
    await page.waitForURL(`${base}/admin`);
    await page.waitForSelector("main[data-page=overview]");
    await page.click("header >> text=Your connections");
    await page.waitForSelector("[data-provider=codex]");
  });
});

test("an operator's connections are their own; those of others are on the operators' pages", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    const own = fakeServer.add({ status: "authenticating" });
    const others = fakeServer.add({ status: "authenticating", user_id: "grace" });
    fakeServer.credentials = [credential("crd_1", own.id), credential("crd_2", others.id)];
    fakeServer.of_others = new Set([others.id, "crd_2"]);
    await page.goto(base + START);
    await page.waitForSelector(`[data-session="${own.id}"]`);
    await page.waitForSelector("[data-credential=crd_1]");
    assert.equal(await page.locator(`[data-session="${others.id}"], [data-credential=crd_2]`).count(), 0);
    fakeServer.caller = { ...fakeServer.caller, role: "user" };
    await page.reload();
    await page.waitForSelector(`[data-session="${others.id}"]`);
  });
});

test("a person sees who is signed in, their tools with account, state and last check, and nothing for operators", async () => {
  for (const viewport of [{ width: 1280, height: 800 }, { width: 390, height: 844 }]) {
    await runScene({ viewport }, async ({ page, fakeServer, base, shoot }) => {
      fakeServer.caller = PERSON;
      fakeServer.add({ status: "authenticating", provider_name: "Claude Code", idle_deadline_at: inSeconds(600) });
      fakeServer.add({ status: "vm_creating", provider_name: "Demo", provider: "demo", idle_deadline_at: inSeconds(200) });
      fakeServer.credentials = [
        credential("crd_1", "ses_1", { checked_at: inSeconds(-70) }),
        credential("crd_2", "ses_2", { provider: "demo", account: "Zoë", health: "expiring", expires_at: inSeconds(86_400) }),
        credential("crd_3", "ses_3", { provider: "claude_code", account: null, health: "needs_auth" }),
        credential("crd_4", "ses_4", { provider: "gemini_cli", account: null, checked_at: inSeconds(-2 * 86_400) }),
      ];
      await page.goto(base + START);
      await page.waitForSelector("[data-credential=crd_4]");
      const rows = await page.locator("[data-credential], [data-session]").allInnerTexts();
      const lines = rows.map((row) => row.replace(/\s+/g, " ").replace(/ ⋯.*/, "").trim());
      assert.match(lines[0] ?? "", /^Demo Getting a computer ready… · Closes in 3:[0-9]{2} Continue Demo$/);
      assert.match(lines[1] ?? "", /^Claude Code Waiting for you Continue Claude Code$/);
      assert.match(lines[2] ?? "", /^Codex ?ada@example\.org Works · checked 1 minute ago Check Codex, ada@example\.org$/);
      assert.match(lines[3] ?? "", /^Demo ?Zoë Expires tomorrow\. Sign in again Demo, Zoë$/);
      assert.match(lines[4] ?? "", /^Claude Code Signed out: sign in again\. Sign in again Claude Code$/);
      assert.match(lines[5] ?? "", /^Gemini CLI Signed in 2 days ago/);
      const text = await page.innerText("body");
      assert.match(await page.innerText("header"), /Zoë\s+Sign out/);
      for (const operators of ["Operators' pages", "for ada", "Details", "not installed", ".codex/auth.json"]) {
        assert.ok(!text.includes(operators), operators);
      }
      assert.equal(await page.locator("[data-action=watch]").count(), 0);
      await shoot(`connections-person-${viewport.width}`);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(overflow, 0);
    });
  }
});

test("the time since the last check is kept current without a request", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    await page.clock.install();
    fakeServer.credentials = [credential("crd_1", "ses_1", { checked_at: inSeconds(-5) })];
    await page.goto(base + START);
    await page.waitForSelector("text=checked just now");
    await page.route("**/api/**", (route) => route.abort());
    await page.clock.fastForward(185_000);
    await page.waitForSelector("text=checked 3 minutes ago");
  });
});

test("the day of an expiry is named", async () => {
  await runScene({ locale: "en-GB", timezoneId: "UTC" }, async ({ page, fakeServer, base }) => {
    await page.clock.install({ time: "2026-11-29T12:00:00Z" });
    const expiring = /** @type {const} */ ({ health: "expiring", checked_at: "2026-11-28T12:00:00Z" });
    fakeServer.credentials = [
      credential("crd_1", "ses_1", { ...expiring, expires_at: "2026-12-01T00:00:00Z" }),
      credential("crd_2", "ses_2", { ...expiring, expires_at: "2026-11-29T23:59:00Z" }),
      credential("crd_3", "ses_3", { health: "needs_auth", expires_at: "2026-11-28T00:00:00Z" }),
    ];
    // The page goes by the server's clock.
    await page.route("**/api/**", async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, headers: { ...response.headers(), date: "Sun, 29 Nov 2026 12:00:00 GMT" } });
    });
    await page.route("**/api/sessions/events", (route) => route.abort());
    await page.goto(base + START);
    await page.waitForSelector("[data-credential=crd_1] >> text=Expires on 1 December.");
    await page.waitForSelector("[data-credential=crd_2] >> text=Expires today.");
    await page.waitForSelector("[data-credential=crd_3] >> text=Expired on 28 November: sign in again.");
  });
});

test("who has no connection yet is led to the tool that needs no account", async () => {
  await runScene({}, async ({ page, fakeServer, base, shoot }) => {
    fakeServer.caller = PERSON;
    fakeServer.credentials = [];
    await page.goto(base + START);
    await page.waitForSelector("text=Nothing connected yet. Try Demo: it takes a minute and needs no account.");
    assert.equal(await page.locator("[data-elsewhere]").count(), 0);
    await shoot("connections-empty");
    await page.click("button >> text=Try Demo");
    await page.waitForURL(/\/auth\?session=ses_.*provider=demo/);
  });
});

test("an operator without connections finds those of the command line", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    fakeServer.credentials = [];
    await page.goto(base + START);
    await page.waitForSelector("text=Nothing connected yet.");
    assert.equal(await page.getAttribute("[data-elsewhere] a", "href"), "/admin/connections");
  });
});

test("a credential is downloaded unchanged: one file as it is, several as an archive with their paths and modes", async () => {
  await runScene({ acceptDownloads: true }, async ({ page, fakeServer, base }) => {
    await page.goto(base + START);
    for (const files of [[".codex/auth.json"], [".gemini/oauth_creds.json", `.gemini/${"deep/".repeat(20)}accounts.json`]]) {
      fakeServer.credentials = [credential("crd_1", "ses_1", { files: files.map((path) => ({ path, bytes: 1, mode: 0o600 })) })];
      await page.reload();
      await page.waitForSelector("[data-credential]");
      await choose(page, "download");
      await page.waitForSelector("dialog >> text=Keep the file secret");
      const [saved] = await Promise.all([page.waitForEvent("download"), page.click("dialog button.danger")]);
      await page.waitForSelector("text=Saved on this computer.");
      const path = await saved.path();
      if (files.length === 1) {
        assert.equal(saved.suggestedFilename(), "codex-auth.json");
        assert.equal(await readFile(path, "utf8"), "content of .codex/auth.json é");
      } else {
        assert.equal(saved.suggestedFilename(), "codex.tar");
        const tar = (/** @type {string[]} */ ...args) => execFileSync("tar", args, { encoding: "utf8" });
        assert.deepEqual(tar("-tf", path).trim().split("\n"), files);
        assert.match(tar("-tvf", path), /^-rw------- /);
        for (const file of files) assert.equal(tar("-xOf", path, file), `content of ${file} é`);
      }
    }
  });
});

test("a download needs a recent sign-in, and is not offered where nothing may leave the machine", async () => {
  await runScene({}, async ({ page, fakeServer, base, shoot }) => {
    fakeServer.caller = PERSON;
    fakeServer.confirmation_required = true;
    await page.goto(base + START);
    await choose(page, "download");
    await page.click("dialog button.danger");
    await page.waitForSelector("[data-problem=confirmation_required]");
    await page.waitForSelector("[data-action=oidc-confirm]");
    await shoot("connections-confirm");
    fakeServer.credentials = [credential("crd_1", "ses_1", { policy: "keep_in_machine" })];
    await page.reload();
    await page.click("[data-credential] .more-menu > summary");
    await page.waitForSelector("[data-action=remove]:visible");
    assert.equal(await page.locator("[data-action=download]").count(), 0);
  });
});

test("a credential that is handed out once is downloaded only after a confirmation", async () => {
  await runScene({ acceptDownloads: true }, async ({ page, fakeServer, base }) => {
    fakeServer.credentials = [credential("crd_1", "ses_1", { policy: "deliver_once", deliver_until: inSeconds(600) })];
    await page.goto(base + START);
    await choose(page, "download");
    await page.waitForSelector("dialog >> text=Keep the file secret");
    await page.waitForSelector("dialog >> text=It is handed out once and then deleted here.");
    assert.ok(!fakeServer.requests.some((call) => call.path.endsWith("/lease")));
    await Promise.all([page.waitForEvent("download"), page.click("dialog button.danger")]);
    await page.waitForSelector("[data-credential]", { state: "detached" });
  });
});

test("the menu of a connection is used by keyboard, and Escape closes it", async () => {
  await runScene({}, async ({ page, base, shoot }) => {
    await page.goto(base + START);
    await page.focus("[data-credential] .more-menu > summary");
    await page.keyboard.press("Enter");
    await page.waitForSelector("[data-action=remove]:visible");
    await shoot("connections-menu");
    await page.keyboard.press("Escape");
    await page.waitForSelector("[data-action=remove]", { state: "hidden" });
    assert.equal(await page.evaluate(() => document.activeElement?.tagName), "SUMMARY");
    await page.keyboard.press("Enter");
    for (let count = 0; count < 3; count += 1) await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement?.getAttribute("data-action")), "remove");
    await page.keyboard.press("Enter");
    await page.waitForSelector("dialog[open]");
    await page.keyboard.press("Escape");
    await page.click("h1");
    await page.click("[data-credential] .more-menu > summary");
    await page.click("h1");
    await page.waitForSelector("[data-action=remove]", { state: "hidden" });
  });
});

test("a sign-in that failed is stopped on the start page, one that works is not", async () => {
  await runScene({}, async ({ page, fakeServer, base, shoot }) => {
    const working = fakeServer.add({ status: "authenticating" });
    const dead = fakeServer.add({ status: "authenticating", provider_name: "Demo" });
    const situation = /** @type {const} */ ({ situation: "tool_ended", phase: "needs_attention", title: "The sign-in stopped" });
    fakeServer.change(dead.id, { for_person: forPerson(dead, situation) });
    await page.goto(base + START);
    const row = page.locator(`[data-session="${dead.id}"]`);
    await row.locator("[data-action=stop]").waitFor();
    await shoot("start-failed-sign-in");
    assert.equal(await page.locator(`[data-session="${working.id}"] [data-action=stop]`).count(), 0);
    await row.locator("[data-action=stop]").click();
    await page.click("dialog button.danger");
    await row.waitFor({ state: "detached" });
    assert.equal(fakeServer.sessions.get(dead.id)?.status, "cancelled");
  });
});

test("a sign-in that renews a connection is continued, not started again", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    const { id } = fakeServer.add({ status: "authenticating", renews: fakeServer.credentials[0]?.id ?? null });
    await page.goto(base + START);
    await page.click("[data-credential] .more-menu > summary");
    await page.click("[data-credential] a >> text=Continue");
    await page.waitForURL(new RegExp(`session=${id}`));
    assert.equal(fakeServer.sessions.size, 1);
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

test("R16, R38: the questions say what a copy does to the sign-in here, and whom a sign-out signs out, in both languages", async () => {
  for (const [locale, shared, everywhere] of /** @type {const} */ ([
    ["en-US", "if Codex uses both, one of them may be signed out.", "Signing out there also signs out Codex everywhere for this account."],
    ["de-DE", "nutzt Codex beide, kann eine davon abgemeldet werden.", "wird Codex für dieses Konto überall abgemeldet."],
  ])) {
    await runScene({ locale }, async ({ page, fakeServer, base }) => {
      fakeServer.credentials = [credential("crd_1", "ses_1", { sign_out_scope: "account", refreshable: true })];
      await page.goto(`${base}/dashboard/remote-cli`);
      await choose(page, "download");
      await page.waitForSelector(`dialog >> text=${shared}`);
      await page.keyboard.press("Escape");
      await choose(page, "remove");
      await page.waitForSelector(`dialog >> text=${everywhere}`);
    });
  }
});

test("R38: a command that only removes its files is not offered as a sign-out", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    fakeServer.credentials = [credential("crd_1", "ses_1", { sign_out_scope: "local", refreshable: false })];
    await page.goto(`${base}/dashboard/remote-cli`);
    await choose(page, "remove");
    await page.waitForSelector("dialog >> text=until you sign out there yourself");
    assert.equal(await page.locator("dialog button[data-alternative]").count(), 0);
  });
});

test("a credential is removed only after a confirmation", async () => {
  await runScene({}, async ({ page, fakeServer, base, shoot }) => {
    await page.goto(`${base}/dashboard/remote-cli`);
    await choose(page, "remove");
    await page.waitForSelector("dialog[open]");
    assert.match((await page.textContent("dialog h2")) ?? "", /^Remove Codex \(ada@example\.org, .+\)\?$/);
    assert.match((await page.textContent("dialog p")) ?? "", /^It stays signed in at Codex unless you also sign out there\./);
    await shoot("credential-dialog");
    await page.keyboard.press("Escape");
    await waitUntil("the dialog to close", async () => (await page.locator("dialog").count()) === 0);
    assert.equal(fakeServer.credentials.length, 1);
    await choose(page, "remove");
    await page.click("dialog button.danger");
    await waitUntil("the credential to be removed", async () => (await page.locator("[data-credential]").count()) === 0);
    assert.equal(fakeServer.credentials.length, 0);
  });
});

test("a credential is removed after the tool has signed out, and kept if the sign-out fails", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    await page.goto(`${base}/dashboard/remote-cli`);
    for (const exit_code of [4, 0]) {
      await choose(page, "remove");
      await page.click("dialog button[data-alternative]");
      const sign_out = await waitUntil("the sign-out's session", () =>
        [...fakeServer.sessions.values()].find((one) => one.credential_use?.purpose === "logout" && one.status === "vm_creating"),
      );
      assert.equal(fakeServer.credentials.length, 1, "not removed before the sign-out has ended");
      const credential_use = /** @type {const} */ ({ purpose: "logout", credential: "crd_1", waits_for: null });
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
    await choose(page, "remove");
    await page.waitForSelector("dialog[open]");
    assert.equal(await page.locator("dialog button[data-alternative]").count(), 0);
    assert.match((await page.textContent("dialog p")) ?? "", /^It stays signed in at Codex until you sign out there yourself\./);
    await page.keyboard.press("Escape");
    assert.equal(await page.locator("[data-credential] [data-action=check]").count(), 0);
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

test("an operator reads in one sentence how machines are isolated, and folded, how to switch on a layer that is off", async () => {
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
      assert.ok(!(await page.innerText("main")).includes(isolation.detail), "folded");
      assert.match(await note.innerText(), /^Machines (are isolated|run) .*(virtualization|isolation)/);
      await note.locator("summary").click();
      assert.ok((await page.innerText("main")).includes(isolation.detail));
      await shoot(`start-isolation-${isolation.level}`);
    });
  }
});

test("every changing request has the header against cross-site request forgery", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.click("[data-provider=demo]");
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
    await page.click("text=Signed-in browsers");
    await page.waitForSelector("[data-browser]");
    await shoot("start-browsers");
    assert.equal(await page.locator("[data-browser]").count(), 2);
    await page.click("[data-action=sign-browser-out]");
    await waitUntil("one browser", async () => (await page.locator("[data-browser]").count()) === 1);
    assert.ok(fakeServer.requests.some((call) => call.method === "DELETE" && call.path.endsWith("0002")));
    await page.click("header [data-action=log-out]");
    await page.waitForSelector("main[data-page=signed-out]");
  });
});

import assert from "node:assert/strict";
import test from "node:test";
import { accessibilityFaults } from "./accessibility.mjs";
import { runScene } from "./scene.mjs";

test("an unused login token signs the browser in and is removed from the address and the history", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    fakeServer.anonymous_allowed = false;
    await page.goto(`${base}/login#login_token=fresh-token`);
    await page.click("[data-action=log-in]");
    await page.waitForURL(`${base}/dashboard/remote-cli`);
    await page.waitForSelector("[data-provider=codex]");
    const login = fakeServer.requests.find((call) => call.path === "/api/login");
    assert.equal(login?.body.login_token, "fresh-token");
    assert.match(login?.body.browser_key, /^[0-9a-f]{64}$/);
    await page.goBack().catch(() => null);
    assert.ok(!page.url().includes("fresh-token"));
    await page.goForward();
  });
});

test("a used login token shows an error with its remedy", async () => {
  await runScene({}, async ({ page, fakeServer, base, shoot }) => {
    fakeServer.anonymous_allowed = false;
    await page.goto(`${base}/login#login_token=used-token`);
    await page.click("[data-action=log-in]");
    await page.waitForSelector("[data-problem=ticket_used]");
    const text = await page.textContent("main");
    assert.match(text ?? "", /This link was used before or has expired\./);
    assert.match(text ?? "", /anteroom serve/);
    await shoot("login-used");
  });
});

test("a used login token in a signed-in browser offers the start page", async () => {
  await runScene({}, async ({ page, base }) => {
    await page.goto(`${base}/login#login_token=used-token`);
    await page.click("[data-action=log-in]");
    await page.click("text=continue to the start page");
    await page.waitForSelector("[data-provider=codex]");
  });
});

test("a link without a login token shows an error", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    fakeServer.anonymous_allowed = false;
    await page.goto(`${base}/login`);
    await page.waitForSelector("[data-problem=no_login_token]");
  });
});

test("r10: a link that lost its fragment can be pasted, or opened again in the same tab", async () => {
  await runScene({}, async ({ page, fakeServer, base, shoot }) => {
    fakeServer.anonymous_allowed = false;
    const session = fakeServer.add({ status: "authenticating" });
    const address = `${base}/dashboard/remote-cli/auth?session=${session.id}&provider=codex`;
    await page.goto(address);
    await page.waitForSelector("[data-problem=link_without_fragment]");
    assert.deepEqual(await accessibilityFaults(page), []);
    await shoot("link-without-fragment");
    const paste = async (/** @type {string} */ text) => {
      await page.fill("#paste-link", text);
      await page.click(".paste-link button[type=submit]");
    };
    await paste(address);
    await page.waitForSelector("[data-problem=no_login_token]");
    await paste("https://other.example/login#login_token=fresh-token");
    await page.waitForSelector("[data-problem=link_of_another_page]");
    assert.equal(fakeServer.requests.filter((call) => call.path === "/api/login").length, 0, "no token was sent");
    await paste(` ${address}#login_token=fresh-token\n`);
    await page.waitForSelector("main[data-status=authenticating]");
    assert.ok(!page.url().includes("#"));
    const report = fakeServer.requests.find((call) => call.path.endsWith("/proxy-fault"));
    assert.deepEqual(report?.body, { fault: "link_without_fragment" });
  });
  await runScene({}, async ({ page, fakeServer, base }) => {
    fakeServer.anonymous_allowed = false;
    const session = fakeServer.add({ status: "authenticating" });
    const address = `${base}/dashboard/remote-cli/auth?session=${session.id}&provider=codex`;
    await page.goto(address);
    await page.waitForSelector("[data-problem=link_without_fragment]");
    await page.goto(`${address}#login_token=fresh-token`);
    await page.click("[data-action=log-in]");
    await page.waitForSelector("main[data-status=authenticating]");
  });
});

test("without a sign-in, the page explains how to sign in", async () => {
  await runScene({}, async ({ page, fakeServer, base, shoot }) => {
    fakeServer.anonymous_allowed = false;
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.waitForSelector("main[data-page=signed-out]");
    assert.match((await page.textContent("main")) ?? "", /anteroom serve/);
    await shoot("signed-out");
  });
});

test("a viewer's link signs in for its session and can be reloaded", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    fakeServer.anonymous_allowed = false;
    const session = fakeServer.add({ status: "authenticating" });
    await page.goto(`${base}/dashboard/remote-cli/auth?session=${session.id}&provider=codex#login_token=fresh-token`);
    await page.click("[data-action=log-in]");
    await page.waitForSelector("main[data-status=authenticating]");
    assert.ok(!page.url().includes("#"));
    // The same link again: its token is used, but the browser has the cookie. The page loads itself again for a new fragment.
    const loaded = page.waitForEvent("load");
    await page.goto(`${base}/dashboard/remote-cli/auth?session=${session.id}&provider=codex#login_token=fresh-token`);
    await loaded;
    await page.reload();
    await page.waitForSelector("main[data-status=authenticating]");
  });
});

test("a viewer's used link in another browser shows an error", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    fakeServer.anonymous_allowed = false;
    const session = fakeServer.add({ status: "authenticating" });
    await page.goto(`${base}/dashboard/remote-cli/auth?session=${session.id}&provider=codex#login_token=old`);
    await page.click("[data-action=log-in]");
    await page.waitForSelector("[data-problem=ticket_used]");
    const text = (await page.textContent("main")) ?? "";
    assert.match(text, /This link was used before or has expired\.If you opened it in this browser: continueOtherwise go back to where you came from and start again\./);
    assert.doesNotMatch(text, /anteroom|ticket|token|cookie/i, "no words for operators");
    // Another tab of this browser was signed in in the meantime.
    fakeServer.anonymous_allowed = true;
    await page.click("[data-problem=ticket_used] a");
    await page.waitForSelector("main[data-status=authenticating]");
  });
});

test("a viewer's used link names for whom it was made, in both languages", async () => {
  for (const [locale, sentence] of /** @type {const} */ ([
    ["en-GB", "Otherwise go back to Acme and start again."],
    ["de-DE", "Gehen Sie sonst zu Acme zurück, und beginnen Sie von vorn."],
  ])) {
    await runScene({ locale }, async ({ page, fakeServer, base, shoot }) => {
      fakeServer.anonymous_allowed = false;
      fakeServer.link_owner = "Acme";
      const session = fakeServer.add({ status: "authenticating" });
      await page.goto(`${base}/dashboard/remote-cli/auth?session=${session.id}&provider=codex#login_token=old`);
      await page.click("[data-action=log-in]");
      await page.locator("[data-problem=ticket_used]", { hasText: sentence }).waitFor();
      await shoot(`login-used-of-owner-${locale}`);
    });
  }
});

test("a link that is only opened, as mail scanners do, is not used up", async () => {
  await runScene({}, async ({ page, fakeServer, base, shoot }) => {
    fakeServer.anonymous_allowed = false;
    await page.goto(`${base}/login#login_token=fresh-token`);
    await page.waitForSelector("main[data-status=confirm]");
    await shoot("login-confirm");
    assert.ok(!page.url().includes("fresh-token"));
    assert.equal(fakeServer.requests.filter((call) => call.path === "/api/login").length, 0);
    await page.goto("about:blank");
    await page.goto(`${base}/login#login_token=fresh-token`);
    await page.click("[data-action=log-in]");
    await page.waitForSelector("[data-provider=codex]");
  });
});

test("requests of the page carry the key of the browser", async () => {
  await runScene({}, async ({ page, fakeServer, base }) => {
    const session = fakeServer.add({ status: "authenticating" });
    await page.goto(`${base}/dashboard/remote-cli/auth?session=${session.id}&provider=codex`);
    await page.waitForSelector("main[data-status=authenticating]");
    const key = await page.evaluate(() => localStorage.getItem("browser_key"));
    const calls = fakeServer.requests.filter((call) => call.path.startsWith("/api/") && !call.path.endsWith("/novnc"));
    assert.ok(calls.some((call) => call.path.endsWith("/events")));
    for (const call of calls) assert.equal(call.headers["x-anteroom"], key, call.path);
  });
});

test("a link is not lost when the server does not answer: it can be tried again", async () => {
  for (const path of ["/login", "/dashboard/remote-cli/auth?session=SESSION"]) {
    await runScene({}, async ({ page, fakeServer, base, shoot }) => {
      const { id } = fakeServer.add({ status: "authenticating" });
      fakeServer.anonymous_allowed = false;
      fakeServer.login_tokens.add("try-again");
      await page.goto(`${base}${path.replace("SESSION", id)}#login_token=try-again`);
      await page.route("**/api/login", (route) => route.abort(), { times: 1 });
      await page.click("[data-action=log-in]");
      await page.waitForSelector("[data-problem=server_unreachable]");
      await shoot(`login-unreachable-${path === "/login" ? "operator" : "session"}`);
      await page.click("[data-action=log-in] >> text=Try again");
      await page.waitForSelector(path === "/login" ? "[data-provider]" : "main[data-status=authenticating]");
      assert.ok(!fakeServer.login_tokens.has("try-again"));
    });
  }
});

import assert from "node:assert/strict";
import test from "node:test";
import { scene } from "./scene.mjs";

test("a fresh pass signs the browser in, and is gone from the address and the history", async () => {
  await scene({}, async ({ page, fakeServer, base }) => {
    fakeServer.open = false;
    await page.goto(`${base}/login#login_token=fresh-pass`);
    await page.waitForURL(`${base}/dashboard/remote-cli`);
    await page.waitForSelector("[data-provider=codex]");
    const entered = fakeServer.calls.find((call) => call.path === "/api/login");
    assert.deepEqual(entered?.body, { pass: "fresh-pass" });
    await page.goBack().catch(() => null);
    assert.ok(!page.url().includes("fresh-pass"));
    await page.goForward();
  });
});

test("a spent pass is told with what to do", async () => {
  await scene({}, async ({ page, fakeServer, base, shoot }) => {
    fakeServer.open = false;
    await page.goto(`${base}/login#login_token=spent-pass`);
    await page.waitForSelector("[data-problem=spent]");
    const text = await page.textContent("main");
    assert.match(text ?? "", /used before or has expired/);
    assert.match(text ?? "", /anteroom serve/);
    await shoot("enter-spent");
  });
});

test("a spent pass in a browser that is signed in leads on", async () => {
  await scene({}, async ({ page, base }) => {
    await page.goto(`${base}/login#login_token=spent-pass`);
    await page.click("text=go on to the dashboard");
    await page.waitForSelector("[data-provider=codex]");
  });
});

test("a link without its pass is told as that", async () => {
  await scene({}, async ({ page, fakeServer, base }) => {
    fakeServer.open = false;
    await page.goto(`${base}/login`);
    await page.waitForSelector("[data-problem=no_pass]");
  });
});

test("nobody signed in: the page says how to", async () => {
  await scene({}, async ({ page, fakeServer, base, shoot }) => {
    fakeServer.open = false;
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.waitForSelector("main[data-page=signed-out]");
    assert.match((await page.textContent("main")) ?? "", /anteroom serve/);
    await shoot("signed-out");
  });
});

test("a viewer's link signs in for its session, and works when loaded again", async () => {
  await scene({}, async ({ page, fakeServer, base }) => {
    fakeServer.open = false;
    const session = fakeServer.add({ status: "authenticating" });
    await page.goto(`${base}/dashboard/remote-cli/auth?session=${session.id}&provider=codex#login_token=fresh-pass`);
    await page.waitForSelector("main[data-status=authenticating]");
    assert.ok(!page.url().includes("#"));
    // The same link again, its pass spent: the cookie is there.
    await page.goto(`${base}/dashboard/remote-cli/auth?session=${session.id}&provider=codex#login_token=fresh-pass`);
    await page.reload();
    await page.waitForSelector("main[data-status=authenticating]");
  });
});

test("a viewer's spent link in another browser says that it is spent", async () => {
  await scene({}, async ({ page, fakeServer, base }) => {
    fakeServer.open = false;
    const session = fakeServer.add({ status: "authenticating" });
    await page.goto(`${base}/dashboard/remote-cli/auth?session=${session.id}&provider=codex#login_token=old`);
    await page.waitForSelector("[data-problem=spent]");
  });
});

import assert from "node:assert/strict";
import test from "node:test";
import { until } from "../browser.mjs";
import { inSeconds, signIn } from "../fake-server/samples.mjs";
import { desktopShows, openSession, scene, statusIs } from "./scene.mjs";

const CODE = {
  sign_in: signIn({ url: "https://auth.openai.com/codex/device", device_code: "ABCD-12345", device_code_until: inSeconds(850) }),
};

test("a device code is shown large, with its address, its time and a way to copy it", async () => {
  await scene({ permissions: ["clipboard-read", "clipboard-write"] }, async (stage) => {
    const { page, shoot } = stage;
    await openSession(stage, CODE);
    await desktopShows(page);
    assert.equal(await page.textContent(".code"), "ABCD-12345");
    assert.match((await page.textContent(".code-box .countdown")) ?? "", /valid for 1[34]:\d\d/);
    const open = page.locator(".address a");
    assert.equal(await open.getAttribute("target"), "_blank");
    assert.equal(await open.getAttribute("rel"), "noopener noreferrer");
    await page.click("[aria-label='Copy the code']");
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "ABCD-12345");
    await shoot("session-code");
  });
});

test("without a machine, no code and no address is offered", async () => {
  await scene({}, async (stage) => {
    const { page, shoot } = stage;
    await openSession(stage, { ...CODE, status: "vm_created", stage: "hello" });
    await page.waitForSelector(".next");
    assert.equal(await page.locator(".code, .address").count(), 0);
    assert.match((await page.textContent(".status")) ?? "", /greeting its agent/);
    await shoot("session-starting");
  });
});

test("an address that is none is not made a link", async () => {
  await scene({}, async (stage) => {
    await openSession(stage, { sign_in: signIn({ url: "javascript:alert(1)" }) });
    await stage.page.waitForSelector(".next");
    assert.equal(await stage.page.locator(".address").count(), 0);
  });
});

test("completed: connected, with the files, a way back and a way on", async () => {
  await scene({}, async (stage) => {
    const { page, fakeServer, shoot } = stage;
    const id = await openSession(stage, CODE);
    await desktopShows(page);
    fakeServer.change(id, {
      status: "completed",
      credential: fakeServer.credentials[0] ?? null,
      return_url: "https://app.example/back?state=1",
      ended_at: inSeconds(0),
    });
    await statusIs(page, "completed");
    const text = (await page.textContent("main")) ?? "";
    assert.match(text, /Connected/);
    assert.match(await page.title(), /^Connected · Codex/);
    assert.equal(await page.evaluate(() => document.activeElement?.tagName), "H1");
    assert.match(text, /~\/\.codex\/auth\.json/);
    assert.equal(await page.getAttribute("text=Go back to app.example", "href"), "https://app.example/back?state=1");
    assert.equal(await page.locator("text=Sign another tool in").count(), 1);
    await until("the desktop to be let go", () => fakeServer.viewers.size === 0);
    await shoot("session-completed");
  });
});

test("failed: the reason, the remedy and the timeline", async () => {
  await scene({}, async (stage) => {
    const { page, fakeServer, shoot } = stage;
    const id = await openSession(stage);
    fakeServer.tell(id, "machine_exited", "The machine ended: killed by signal 9.", { signal: 9, generation: 3 });
    fakeServer.change(id, {
      status: "failed",
      reason: { code: "machine_failed", sentence: "The machine ended and the session had no restart left." },
      ended_at: inSeconds(0),
    });
    await statusIs(page, "failed");
    const text = (await page.textContent("main")) ?? "";
    assert.match(text, /no restart left/);
    assert.match(text, /Start a new session/);
    assert.match(text, /killed by signal 9/);
    await shoot("session-failed");
  });
});

test("an ended session opened later shows its end at once", async () => {
  await scene({}, async (stage) => {
    await openSession(stage, { status: "expired", reason: { code: "idle_expired", sentence: "The session was idle for too long." } });
    await statusIs(stage.page, "expired");
    assert.match((await stage.page.textContent("main")) ?? "", /was idle for too long/);
  });
});

test("a status this page does not know shows its raw text", async () => {
  await scene({}, async (stage) => {
    await openSession(stage, { status: "vm_hibernated" });
    await statusIs(stage.page, "vm_hibernated");
    assert.match((await stage.page.textContent(".status")) ?? "", /vm_hibernated/);
    await desktopShows(stage.page);
  });
});

test("cancelling asks first", async () => {
  await scene({}, async (stage) => {
    const { page, fakeServer, shoot } = stage;
    await openSession(stage);
    await page.click("[data-action=cancel]");
    await page.waitForSelector("dialog[open]");
    await shoot("session-cancel-question");
    await page.click("dialog >> text=Go on");
    assert.ok(!fakeServer.calls.some((call) => call.path.endsWith("/cancel")));
    await page.click("[data-action=cancel]");
    await page.click("dialog button.danger");
    await statusIs(page, "cancelled");
  });
});

test("a broken stream is taken up where it was, with nothing twice", async () => {
  await scene({}, async (stage) => {
    const { page, fakeServer } = stage;
    const id = await openSession(stage);
    await page.click(".timeline > summary");
    await page.waitForSelector("[data-kind=session_accepted]");
    fakeServer.breakStreams();
    fakeServer.tell(id, "machine_ready", "The machine is ready.");
    await page.waitForSelector("[data-kind=machine_ready]");
    const again = await until("the stream to come back", () =>
      fakeServer.calls.find((call) => call.path.endsWith("/events") && call.headers["last-event-id"] === "1"),
    );
    assert.ok(again);
    assert.equal(await page.locator(".timeline ol > li").count(), 2);
    fakeServer.change(id, { status: "vm_stopped" });
    await statusIs(page, "vm_stopped");
  });
});

test("where streams do not pass, the page asks", async () => {
  await scene({}, async (stage) => {
    const { page, fakeServer } = stage;
    fakeServer.streams = false;
    const id = await openSession(stage);
    await statusIs(page, "authenticating");
    fakeServer.sessions.set(id, { .../** @type {any} */ (fakeServer.sessions.get(id)), status: "vm_started" });
    await statusIs(page, "vm_started");
    await page.waitForSelector("text=asking every few seconds");
  });
});

test("an unknown session is told as that", async () => {
  await scene({}, async ({ page, base }) => {
    await page.goto(`${base}/dashboard/remote-cli/auth?session=ses_00000000000000000000000000&provider=codex`);
    await page.waitForSelector("[data-problem=unknown_session]");
  });
});

test("the terminal takes keys, tells its size and shows colours under the policy", async () => {
  await scene({}, async (stage) => {
    const { page, fakeServer, shoot } = stage;
    await openSession(stage);
    await page.click("#tab-terminal");
    await until("the terminal", async () => ((await page.textContent(".xterm-rows").catch(() => "")) ?? "").includes("codex login"));
    await page.keyboard.type("echo hi");
    await until("the keys", () => fakeServer.typed.includes("echo hi"));
    const size = fakeServer.sizes.at(-1);
    assert.ok(size && size.cols > 60 && size.rows > 15, JSON.stringify(size));
    const green = await page.evaluate(() =>
      [...document.querySelectorAll(".xterm-rows span")].some((span) => getComputedStyle(span).color === "rgb(120, 200, 140)"),
    );
    assert.ok(green, "a terminal's own colours are shown");
    await shoot("terminal");
  });
});

test("text is pasted into the machine, and a code with Enter", async () => {
  await scene({}, async (stage) => {
    const { page, fakeServer, shoot } = stage;
    await openSession(stage, {
      provider: "claude_code",
      provider_name: "Claude Code",
      lanes: ["link", "terminal"],
      next_action: "Open the link, sign in, and paste the code you are given here.",
      sign_in: signIn({ url: "https://claude.ai/oauth/authorize?code=true&client_id=x" }),
    });
    await desktopShows(page);
    await page.fill("#paste-code", "the-code#state");
    await shoot("session-link");
    await page.click(".next >> text=Send");
    const pasted = await until("the code", () => fakeServer.calls.find((call) => call.path.endsWith("/paste")));
    assert.deepEqual(pasted.body, { text: "the-code#state" });
    await until("the box to be empty", async () => (await page.inputValue("#paste-code")) === "");
    await page.click("text=Paste into the machine");
    await page.fill("#paste-text", "some text");
    await page.click("form >> text=Paste");
    await until("the text", () => fakeServer.calls.some((call) => call.path.endsWith("/type") && call.body.text === "some text" && !call.body.enter));
    await until("that box to be empty", async () => (await page.inputValue("#paste-text")) === "");
  });
});

test("a page in sight says that somebody is here", async () => {
  await scene({}, async (stage) => {
    const id = await openSession(stage);
    await until("a heartbeat", () => stage.fakeServer.calls.some((call) => call.path === `/api/auth/session/${id}/heartbeat`));
  });
});

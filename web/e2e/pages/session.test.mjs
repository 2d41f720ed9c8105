import assert from "node:assert/strict";
import test from "node:test";
import { waitUntil } from "../browser.mjs";
import { forPerson, inSeconds, signIn } from "../fake-server/samples.mjs";
import { openDesktop, openSession, runScene, sessionShows, statusIs } from "./scene.mjs";

const CODE = {
  sign_in: signIn({ url: "https://auth.openai.com/codex/device", device_code: "ABCD-12345", device_code_until: inSeconds(850) }),
};

test("a device code is shown with its address, its remaining time and a copy button", async () => {
  await runScene({ permissions: ["clipboard-read", "clipboard-write"] }, async (scene) => {
    const { page, shoot } = scene;
    await openSession(scene, CODE);
    assert.equal(await page.textContent(".code"), "ABCD-12345");
    assert.match((await page.textContent(".device-code .countdown")) ?? "", /valid for 1[34]:\d\d/);
    const open = page.locator(".sign-in-address a");
    assert.equal(await open.getAttribute("target"), "_blank");
    assert.equal(await open.getAttribute("rel"), "noopener noreferrer");
    await page.click("text=Copy code");
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "ABCD-12345");
    await shoot("session-code");
  });
});

test("without a machine, no code and no address is shown", async () => {
  await runScene({}, async (scene) => {
    const { page, shoot } = scene;
    await openSession(scene, { ...CODE, status: "vm_created", stage: "hello" });
    await page.waitForSelector(".next-action");
    assert.equal(await page.locator(".code, .sign-in-address").count(), 0);
    assert.equal(await page.textContent(".status-title"), "Getting a computer ready…");
    await shoot("session-starting");
  });
});

test("an address that is not http or https does not become a link", async () => {
  await runScene({}, async (scene) => {
    await openSession(scene, { sign_in: signIn({ url: "javascript:alert(1)" }) });
    await scene.page.waitForSelector(".next-action");
    assert.equal(await scene.page.locator(".sign-in-address").count(), 0);
  });
});

test("a completed session shows the files, a return link and a link to connect another tool", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, shoot } = scene;
    const id = await openSession(scene, CODE);
    await openDesktop(page);
    fakeServer.change(id, {
      status: "completed",
      credential: { .../** @type {any} */ (fakeServer.credentials[0]), account: "ada@acme.example" },
      return_url: "https://app.example/back?state=1",
      ended_at: inSeconds(0),
    });
    await statusIs(page, "completed");
    await page.click("[data-action=stay]");
    await page.waitForSelector("text=Codex is connected as ada@acme.example. You can close this page.");
    const text = (await page.textContent("main")) ?? "";
    assert.match(text, /Connected/);
    assert.match(await page.title(), /^Connected · Codex/);
    assert.match(text, /~\/\.codex\/auth\.json/);
    const address = `https://app.example/back?state=1&session=${id}&status=completed`;
    assert.equal(await page.getAttribute("text=Go back to app.example", "href"), address);
    assert.equal(await page.locator("text=Connect another tool").count(), 1);
    await waitUntil("the desktop's connection to be closed", () => fakeServer.viewers.size === 0);
    await shoot("session-completed");
  });
});

test("a page that saw a session complete goes back by itself; one that is opened later, or after a failure, does not", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, base } = scene;
    await page.route("https://app.example/**", (route) => route.fulfill({ contentType: "text/html", body: "<title>app</title>" }));
    const return_url = "https://app.example/back";
    const id = await openSession(scene, CODE);
    await sessionShows(page);
    fakeServer.change(id, { status: "completed", return_url, ended_at: inSeconds(0) });
    await statusIs(page, "completed");
    assert.equal(await page.evaluate(() => document.activeElement?.tagName), "H1");
    await page.waitForURL(`${return_url}?session=${id}&status=completed`);

    await page.goto(`${base}/dashboard/remote-cli/auth?session=${id}`);
    await page.waitForSelector("[data-action=return]");
    assert.equal(await page.locator("[data-action=stay]").count(), 0);

    const failed = await openSession(scene, CODE);
    fakeServer.change(failed, { status: "failed", return_url, ended_at: inSeconds(0) });
    await page.waitForSelector("[data-action=return]");
    assert.equal(await page.locator("[data-action=stay]").count(), 0);
  });
});

test("a failed session shows what happened, a button to try again and, for operators, the timeline", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, shoot } = scene;
    const id = await openSession(scene);
    fakeServer.addEntry(id, "machine_exited", "The machine ended: killed by signal 9.", { signal: 9, generation: 3 });
    fakeServer.change(id, {
      status: "failed",
      reason: { code: "machine_failed", sentence: "The machine ended and the session had no restart left." },
      ended_at: inSeconds(0),
    });
    await statusIs(page, "failed");
    const text = (await page.textContent("main")) ?? "";
    assert.match(text, /The temporary computer stopped three times\. Nothing was saved\./);
    assert.match((await page.textContent(".timeline")) ?? "", /killed by signal 9/);
    assert.equal(await page.getAttribute("[data-report]", "data-report"), id);
    await shoot("session-failed");
    await page.click("[data-action=try-again]");
    const start = await waitUntil("the start", () => fakeServer.requests.find((call) => call.path === "/api/auth/start"));
    assert.equal(start.body.provider, "codex", "the same tool");
    await page.waitForURL((url) => url.searchParams.get("session") !== id);
  });
});

test("an ended session that is opened later shows its end", async () => {
  await runScene({}, async (scene) => {
    await openSession(scene, { status: "expired", reason: { code: "idle_expired", sentence: "The session was idle for too long." } });
    await statusIs(scene.page, "expired");
    assert.match((await scene.page.textContent("main")) ?? "", /Closed because it was not used for 10 minutes\./);
  });
});

test("an unknown status is shown unchanged", async () => {
  await runScene({}, async (scene) => {
    await openSession(scene, { status: /** @type {any} */ ("vm_hibernated") });
    await statusIs(scene.page, "vm_hibernated");
    assert.match((await scene.page.textContent(".status")) ?? "", /vm_hibernated/);
    await openDesktop(scene.page);
  });
});

test("a session is cancelled only after a confirmation", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, shoot } = scene;
    await openSession(scene);
    await page.click("[data-action=cancel]");
    await page.waitForSelector("dialog[open]");
    await shoot("session-cancel-dialog");
    await page.click("dialog >> text=Keep going");
    assert.ok(!fakeServer.requests.some((call) => call.path.endsWith("/cancel")));
    await page.click("[data-action=cancel]");
    await page.click("dialog button.danger");
    await statusIs(page, "cancelled");
  });
});

test("a broken stream resumes after the last entry, without duplicates", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    const id = await openSession(scene);
    await page.click(".timeline > summary");
    await page.waitForSelector("[data-kind=session_accepted]");
    fakeServer.breakStreams();
    fakeServer.addEntry(id, "machine_ready", "The machine is ready.");
    await page.waitForSelector("[data-kind=machine_ready]");
    const reopened = await waitUntil("the stream to be reopened", () =>
      fakeServer.requests.find((call) => call.path.endsWith("/events") && call.headers["last-event-id"] === "1"),
    );
    assert.ok(reopened);
    assert.equal(await page.locator(".timeline ol > li").count(), 2);
    fakeServer.change(id, { status: "vm_stopped" });
    await statusIs(page, "vm_stopped");
  });
});

test("when the event stream fails, the page polls", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    fakeServer.events_enabled = false;
    const id = await openSession(scene);
    await statusIs(page, "authenticating");
    fakeServer.sessions.set(id, { .../** @type {any} */ (fakeServer.sessions.get(id)), status: "vm_started" });
    await statusIs(page, "vm_started");
    await page.waitForSelector("text=Updates arrive with a delay");
  });
});

test("an unknown session shows an error", async () => {
  await runScene({}, async ({ page, base }) => {
    await page.goto(`${base}/dashboard/remote-cli/auth?session=ses_00000000000000000000000000&provider=codex`);
    await page.waitForSelector("[data-problem=unknown_session]");
  });
});

test("the terminal receives keys, sends its size and shows colours within the Content-Security-Policy", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, shoot } = scene;
    await openSession(scene);
    await page.click("#tab-terminal");
    await waitUntil("the terminal", async () => ((await page.textContent(".xterm-rows").catch(() => "")) ?? "").includes("codex login"));
    await page.keyboard.type("echo hi");
    await waitUntil("the keys", () => fakeServer.terminal_input.includes("echo hi"));
    const size = fakeServer.terminal_sizes.at(-1);
    assert.ok(size && size.cols > 60 && size.rows > 15, JSON.stringify(size));
    const green = await page.evaluate(() =>
      [...document.querySelectorAll(".xterm-rows span")].some((span) => getComputedStyle(span).color === "rgb(120, 200, 140)"),
    );
    assert.ok(green, "the colours of the terminal are shown");
    await shoot("terminal");
  });
});

test("text is typed into the terminal without Enter, and a code is pasted into the tool", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, shoot } = scene;
    await openSession(scene, {
      provider: "claude_code",
      provider_name: "Claude Code",
      lanes: ["link", "terminal"],
      next_action: "Open the link, sign in, and paste the code you are given here.",
      sign_in: signIn({ url: "https://claude.ai/oauth/authorize?code=true&client_id=x" }),
    });
    await page.fill("#paste-code", "the-code#state");
    await shoot("session-link");
    await page.click(".next-action >> text=Send");
    const pasted = await waitUntil("the code", () => fakeServer.requests.find((call) => call.path.endsWith("/paste")));
    assert.deepEqual(pasted.body, { text: "the-code#state" });
    await waitUntil("the code box to be empty", async () => (await page.inputValue("#paste-code")) === "");
    assert.equal(await page.locator("#paste-text").count(), 0, "the terminal's box is only on its tab");
    await page.click("#tab-terminal");
    await page.fill("#paste-text", "some text");
    await page.click("#terminal-tools button[type=submit]");
    await waitUntil("the text", () => fakeServer.requests.some((call) => call.path.endsWith("/type") && call.body.text === "some text" && !call.body.enter));
    await waitUntil("the text box to be empty", async () => (await page.inputValue("#paste-text")) === "");
  });
});

test("a secret has one field, and one message says that it was not accepted", async () => {
  await runScene({}, async (scene) => {
    const { page } = scene;
    const prompt = { id: "key_entry", label: "OpenAI API key", secret: true, expected_format: "It begins with sk-.", rejection: "wrong key" };
    await openSession(scene, { lanes: ["terminal"], sign_in: signIn({ prompt, failed: "wrong key" }) });
    await page.waitForSelector("#paste-code");
    assert.equal(await page.locator("#paste-text").count(), 0);
    assert.deepEqual(await page.locator("[role=alert]").allTextContents(), ["That was not accepted. Codex answered: “wrong key”"]);
  });
});

test("a question after the code is asked without the steps of the sign-in", async () => {
  const prompt = (/** @type {string} */ id) => ({ id, label: `The ${id}`, secret: false, expected_format: null, rejection: null });
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    const url = "https://claude.ai/oauth/authorize?code=true&client_id=x";
    const id = await openSession(scene, { provider: "demo", provider_name: "Demo", lanes: ["link", "terminal"], sign_in: signIn({ url, prompt: prompt("code") }) });
    await page.waitForSelector(".step-number");
    fakeServer.addEntry(id, "pasted", "The pasted text was typed at the prompt code.", { interpreted_as: "prompt", id: "code" });
    fakeServer.change(id, { sign_in: signIn({ url, prompt: prompt("project") }) });
    await page.waitForSelector("text=The project");
    assert.equal(await page.locator(".step-number, .sign-in-address").count(), 0);
  });
});

test("a failed sign-in shows no steps and no places of steps", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    const id = await openSession(scene, CODE);
    await page.waitForSelector(".step-number");
    const session = fakeServer.sessions.get(id);
    assert.ok(session);
    fakeServer.change(id, { for_person: forPerson(session, { situation: "host_unreachable", phase: "needs_attention", sentence: "Try again." }) });
    await page.waitForSelector(".failure >> text=Try again.");
    assert.equal(await page.locator(".step-number, .blank").count(), 0);
  });
});

test("at 1280 × 800 the toolbar of the desktop is on the first screen", async () => {
  await runScene({ viewport: { width: 1280, height: 800 } }, async (scene) => {
    await openSession(scene, { lanes: ["desktop"] });
    await openDesktop(scene.page);
    const row = await scene.page.locator(".desktop-tools > .row").first().boundingBox();
    assert.ok(row !== null && row.y + row.height <= 800, JSON.stringify(row));
    const controls = await scene.page.locator(".session-controls button").evaluateAll((all) => all.map((button) => button.clientHeight));
    assert.ok(controls.every((height) => height < 40), `${controls}`);
  });
});

test("a visible page sends heartbeats", async () => {
  await runScene({}, async (scene) => {
    const id = await openSession(scene);
    await waitUntil("a heartbeat", () => scene.fakeServer.requests.some((call) => call.path === `/api/auth/session/${id}/heartbeat`));
  });
});

test("r15_a hidden page sends heartbeats: its person signs in in another tab", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    await page.clock.install();
    const id = await openSession(scene);
    const beats = () => fakeServer.requests.filter((call) => call.path === `/api/auth/session/${id}/heartbeat`).length;
    await waitUntil("the first heartbeat", () => beats() > 0);
    await page.evaluate(() => {
      Object.defineProperty(document, "visibilityState", { value: "hidden", configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await waitUntil("the heartbeat of a page that was hidden", () => beats() > 1);
    const before = beats();
    await page.clock.fastForward(45_000);
    await waitUntil("heartbeats of a hidden page", () => beats() > before);
  });
});

test("a helper is invited by name with a link to copy", async () => {
  await runScene({}, async (scene) => {
    await openSession(scene);
    await scene.page.click("[data-invite] summary");
    await scene.page.fill("[data-invite] input[name=helper]", "Grace");
    await scene.page.click("[data-action=invite]");
    await scene.page.waitForSelector("[data-invitation]");
    assert.match((await scene.page.textContent("[data-invitation]")) ?? "", /view=1#login_token=for-Grace/);
    await scene.shoot("session-invite");
  });
});

test("helpers and open invitations are listed live, each with a button that ends its access, and announced once", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    await openSession(scene);
    const helper = { joined_at: "2026-01-01T00:00:00.000Z", last_seen_at: "2026-01-01T00:00:00.000Z", expires_at: "2099-01-01T00:00:00.000Z", address: null };
    const grace = { ...helper, id: "cal_01jd0000000000000000000001", name: "Grace", status: "away" };
    const linus = { ...helper, id: "cal_01jd0000000000000000000002", name: "Linus", status: "invited", joined_at: null, last_seen_at: null };
    assert.equal(await page.locator("[data-helper]").count(), 0);
    await page.waitForSelector("[data-helpers-announcement]", { state: "attached" });
    fakeServer.changeHelpers([grace, linus]);
    await page.waitForSelector("[data-helper=away]");
    assert.match((await page.textContent("[data-helper=invited]")) ?? "", /Linus.*link was not used yet/s);
    fakeServer.changeHelpers([{ ...grace, status: "connected" }, linus]);
    await page.waitForSelector("[data-helper=connected]");
    const announced = () => page.textContent("[data-helpers-announcement]");
    await waitUntil("the announcement", async () => (await announced()) === "Grace is watching.");
    await page.locator("[data-helpers]").scrollIntoViewIfNeeded();
    await scene.shoot("session-helpers");
    await page.click("[data-helper=connected] [data-action=end-helper]");
    await waitUntil("the row to be removed", async () => (await page.locator("[data-helper]").count()) === 1);
    assert.ok(fakeServer.requests.some((call) => call.method === "DELETE" && call.path.endsWith(`/helpers/${grace.id}`)));
    await waitUntil("the announcement", async () => (await announced()) === "Grace stopped watching.");
    assert.equal(await page.evaluate(() => document.activeElement?.hasAttribute("data-helpers")), true, "the focus stays near");
  });
});

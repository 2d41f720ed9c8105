// Every state of the persons' pages that the other tests reach on one device only.

import { waitUntil } from "../browser.mjs";
import { credential, inSeconds } from "../fake-server/samples.mjs";
import { desktopShows, openSession, statusIs } from "./scene.mjs";

/** @typedef {import("./scene.mjs").Scene} Scene */

const REASON = { code: "machine_failed", sentence: "The machine ended: killed by signal 9." };

/** Each opens a page and waits for its state. @type {Record<string, (scene: Scene) => Promise<unknown>>} */
export const STATES = {
  "start-empty": async ({ page, fakeServer, base }) => {
    fakeServer.credentials = [];
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.waitForSelector("[data-provider]");
  },
  connections: async ({ page, fakeServer, base }) => {
    fakeServer.caller = { role: "user", name: "Zoë", session: null, sign_in: "oidc" };
    fakeServer.add({ status: "authenticating", idle_deadline_at: inSeconds(200) });
    fakeServer.credentials = [
      credential("crd_1", "ses_1"),
      credential("crd_2", "ses_2", { provider: "demo", account: "Zoë", health: "expiring", expires_at: inSeconds(86_400) }),
      credential("crd_3", "ses_3", { provider: "claude_code", account: null, health: "needs_auth" }),
    ];
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.click("[data-credential=crd_2] .more-menu > summary");
    await page.waitForSelector("[data-action=remove]:visible");
  },
  "remove-a-connection": async ({ page, base }) => {
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.click("[data-credential] .more-menu > summary");
    await page.click("[data-action=remove]");
    await page.waitForSelector("dialog[open]");
  },
  "start-auditor": async ({ page, base }) => {
    const caller = { role: "auditor", name: "Zoë", session: null, sign_in: "oidc" };
    await page.route("**/api/me", (route) => route.fulfill({ json: caller }));
    await page.goto(`${base}/dashboard/remote-cli`);
    await statusIs(page, "auditor");
  },
  "signed-out": async ({ page, fakeServer, base }) => {
    fakeServer.anonymous_allowed = false;
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.waitForSelector("main[data-page=signed-out]");
  },
  "no-session": async ({ page, base }) => {
    await page.goto(`${base}/dashboard/remote-cli/auth`);
    await page.waitForSelector("main[data-page=auth]:not([data-status]) h1");
    await page.waitForSelector("main a");
  },
  "unknown-session": async ({ page, base }) => {
    await page.goto(`${base}/dashboard/remote-cli/auth?session=ses_01jd0000000000000000000077`);
    await page.waitForSelector("[data-problem=unknown_session]");
  },
  "link-confirmation": async ({ page, fakeServer, base }) => {
    fakeServer.anonymous_allowed = false;
    await page.goto(`${base}/login#login_token=fresh-token`);
    await page.waitForSelector("[data-action=log-in]");
  },
  "sign-in-failed": async ({ page, base }) => {
    await page.goto(`${base}/sign-in/callback`);
    await statusIs(page, "failed");
  },
  consent: async (scene) => {
    scene.fakeServer.consent = "required";
    await openSession(scene);
    await scene.page.waitForSelector("[data-consent=required]");
  },
  queued: async (scene) => {
    await openSession(scene, { status: "vm_creating", queue_position: 3 });
    await scene.page.waitForSelector(".status-light");
  },
  "view-only": async (scene) => {
    const { id } = scene.fakeServer.add({ status: "authenticating" });
    await scene.page.goto(`${scene.base}/dashboard/remote-cli/auth?session=${id}&view=1`);
    await desktopShows(scene.page);
  },
  terminal: async (scene) => {
    await openSession(scene);
    await scene.page.click("#tab-terminal");
    await waitUntil("the terminal", async () => ((await scene.page.textContent(".xterm-rows").catch(() => "")) ?? "").includes("codex login"));
  },
  failed: async (scene) => {
    await openSession(scene, { status: "failed", reason: REASON });
    await statusIs(scene.page, "failed");
  },
  expired: async (scene) => {
    await openSession(scene, { status: "expired", reason: { code: "idle_timeout", sentence: "The session was idle for too long." } });
    await statusIs(scene.page, "expired");
  },
  "only-desktop-ended": async (scene) => {
    const { page, fakeServer, base } = scene;
    const { id } = fakeServer.add({ status: "authenticating" });
    await page.goto(`${base}/api/auth/session/${id}/novnc`);
    await desktopShows(page);
    fakeServer.closeDesktops(4410, "ended: The session has ended.");
    await page.waitForSelector("[data-connection=ended]");
  },
};

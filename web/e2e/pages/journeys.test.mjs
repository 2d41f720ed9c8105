// Runs the steps of the real journeys (e2e/real), which use real machines, against the fake server, to keep them working.

import test from "node:test";
import { waitUntil } from "../browser.mjs";
import { inSeconds, signIn } from "../fake-server/samples.mjs";
import { runCodexJourney, runDemoJourney, runPastedCodeJourney } from "../real/play.mjs";
import { runScene } from "./scene.mjs";
import { authorize, CLAUDE_PROMPT, startIssuer } from "./sign-ins.mjs";

/** @param {import("./scene.mjs").Scene} scene */
const journeyOf = ({ page }) => ({ page, shoot: async () => {}, log: () => {}, slow_ms_max: 20_000 });

test("the Codex journey reaches the desktop, the code and the end", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, base } = scene;
    await page.goto(`${base}/dashboard/remote-cli`);
    fakeServer.onDesktop = (_, id) => {
      const sign_in = signIn({ url: "https://auth.openai.com/codex/device", device_code: "ABCD-12345", device_code_until: inSeconds(800) });
      fakeServer.change(id, { status: "authenticating", sign_in });
      setTimeout(() => fakeServer.change(id, { status: "completed", credential: fakeServer.credentials[0] ?? null }), 1_500);
    };
    await runCodexJourney(journeyOf(scene));
  });
});

test("the demo journey types a name, allows and reaches the end, using only the canvas", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, base } = scene;
    await page.goto(`${base}/dashboard/remote-cli`);
    fakeServer.onDesktop = (rfb, id) => {
      let consent_shown = false;
      rfb.fillRectangle(0, 0, 800, 500, 0xf4, 0xf4, 0xf2);
      rfb.fillRectangle(240, 200, 320, 50, 255, 255, 255);
      rfb.fillRectangle(330, 274, 140, 54, 0x1f, 0x4b, 0x99);
      rfb.onkey = (keysym) => {
        if (keysym > 0x20 && keysym < 0x7f && !consent_shown) rfb.fillRectangle(250 + rfb.keys.length * 12, 218, 8, 14, 20, 20, 20);
        if (keysym !== 0xff0d || consent_shown) return;
        consent_shown = true;
        rfb.fillRectangle(0, 0, 800, 500, 0xf4, 0xf4, 0xf2);
        rfb.fillRectangle(220, 200, 360, 120, 0x0a, 0x7d, 0x33);
      };
      rfb.onclick = ({ x, y }) => {
        if (!consent_shown || x < 220 || x > 580 || y < 200 || y > 320) return;
        rfb.fillRectangle(0, 0, 800, 500, 0xf4, 0xf4, 0xf2);
        fakeServer.change(id, { status: "completed", credential: fakeServer.credentials[0] ?? null });
      };
    };
    await runDemoJourney(journeyOf(scene));
  });
});

test("the pasted-code journey copies the link, allows, pastes the code and reaches the end", async () => {
  const pages = await startIssuer();
  try {
    await runScene({ permissions: ["clipboard-read", "clipboard-write"] }, async (scene) => {
      const { page, fakeServer, base } = scene;
      await page.goto(`${base}/dashboard/remote-cli`);
      const journey = runPastedCodeJourney(journeyOf(scene), "claude_code");
      const tool = async () => {
        const id = await waitUntil("the session", () => [...fakeServer.sessions.keys()][0]);
        fakeServer.change(id, { status: "authenticating", sign_in: signIn({ url: `${authorize(pages.issuer, "one#two")}&asks_consent=1`, prompt: CLAUDE_PROMPT }) });
        await waitUntil("the code", () => fakeServer.requests.some((call) => call.path.endsWith("/paste") && call.body.text === "one#two"));
        fakeServer.change(id, { status: "completed", credential: fakeServer.credentials[0] ?? null });
      };
      await Promise.all([journey, tool()]);
    });
  } finally {
    pages.close();
  }
});

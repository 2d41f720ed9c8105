import assert from "node:assert/strict";
import test from "node:test";
import { credential } from "../fake-server/samples.mjs";
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

import assert from "node:assert/strict";
import test from "node:test";
import type { SessionView } from "../src/api";
import { messagesOf, returnAddress } from "../src/embedding";
import { SESSION } from "./fixtures/session";

const session = (part: Partial<SessionView>): SessionView => ({ ...SESSION, credential: null, ...part });
const types = (previous: SessionView | null, next: SessionView) => messagesOf(previous, next).map((message) => message.type);

test("the return address has the session and its status, and keeps what the site put there", () => {
  const address = returnAddress(session({ status: "completed", return_url: "https://app.example/back?tab=2&status=old#top" }));
  assert.equal(address, `https://app.example/back?tab=2&status=completed&session=${SESSION.id}#top`);
  for (const return_url of [null, "javascript:alert(1)", "data:text/html,x", "not an address"]) {
    assert.equal(returnAddress(session({ return_url })), null, String(return_url));
  }
});

test("each change is posted once", () => {
  const [creating, again] = [session({ status: "vm_creating" }), session({ status: "vm_creating", version: 9 } as Partial<SessionView>)];
  const completed = session({ status: "completed" });
  assert.deepEqual(types(null, creating), ["anteroom.ready", "anteroom.status"]);
  assert.deepEqual(types(creating, again), []);
  assert.deepEqual(types(creating, completed), ["anteroom.status", "anteroom.done"]);
  assert.deepEqual(types(null, completed), ["anteroom.ready", "anteroom.status", "anteroom.done"]);
  assert.deepEqual(types(completed, completed), []);
});

import assert from "node:assert/strict";
import test from "node:test";
import type { SessionView } from "../src/api";
import { messagesOf, returnAddress } from "../src/embedding";
import { SESSION } from "./fixtures/session";

const session = (part: Partial<SessionView>): SessionView => ({ ...SESSION, credential: null, ...part });
const types = (previous: SessionView | null, next: SessionView) => messagesOf(previous, next).map((message) => message.type);

test("the return address has the session and its status, and keeps what the site put there", () => {
  const address = returnAddress(session({ status: "completed", return_url: "https://app.example/back?tab=2&status=old#top" }));
  assert.equal(address, `https://app.example/back?tab=2&session=${SESSION.id}&status=completed#top`);
  for (const return_url of [null, "javascript:alert(1)", "data:text/html,x", "not an address"]) {
    assert.equal(returnAddress(session({ return_url })), null, String(return_url));
  }
});

test("the return address is not encoded again", () => {
  const added = `session=${SESSION.id}&status=failed`;
  for (const [given, address] of [
    ["https://app.example/a?sig=a%2Fb~c%7E*'()&n=%2Fx%20y+z&flag&k=%E4", "https://app.example/a?sig=a%2Fb~c%7E*'()&n=%2Fx%20y+z&flag&k=%E4&"],
    ["https://app.example", "https://app.example?"],
    ["HTTPS://App.Example:443/A/../b?", "HTTPS://App.Example:443/A/../b?"],
    ["https://app.example/?session=x&sessions=y", "https://app.example/?sessions=y&"],
    ["https://app.example/#/route?x=1", "https://app.example/?"],
  ] as const) {
    const fragment = given.includes("#") ? "#/route?x=1" : "";
    assert.equal(returnAddress(session({ status: "failed", return_url: given })), `${address}${added}${fragment}`, given);
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

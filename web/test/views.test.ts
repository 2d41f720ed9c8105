import assert from "node:assert/strict";
import test from "node:test";
import type { HelperView, SessionView, Status, TimelineEntry } from "../src/api";
import { helperChanges } from "../src/helper-changes";
import { keysymOf, textChange } from "../src/keys";
import { mergeTimeline, supersedes } from "../src/merge";
import { stepsOf } from "../src/steps";
import { hasEnded, formatMode, STATUSES, statusLabel } from "../src/labels";
import { SESSION } from "./fixtures/session";

const session = (part: Partial<SessionView>): SessionView => ({ ...SESSION, credential: null, ...part });
const states = (part: Partial<SessionView>) => stepsOf(session(part))?.map((step) => step.state) ?? [];

test("every status shows a title and five steps", () => {
  for (const status of STATUSES) {
    assert.notEqual(statusLabel(status).title, status);
    assert.equal(states({ status }).length, 5, status);
  }
});

test("an unknown status is shown unchanged and does not end the session", () => {
  assert.equal(statusLabel("vm_paused").title, "vm_paused");
  assert.equal(stepsOf(session({ status: "vm_paused" as string as Status })), null);
  assert.equal(hasEnded("vm_paused"), false);
});

test("the steps follow the status and the stage", () => {
  assert.deepEqual(states({ status: "vm_creating" }), ["current", "waiting", "waiting", "waiting", "waiting"]);
  assert.deepEqual(states({ status: "vm_created", stage: "hello" }), ["done", "current", "waiting", "waiting", "waiting"]);
  assert.deepEqual(states({ status: "vm_created", stage: "browser" }), ["done", "done", "current", "waiting", "waiting"]);
  assert.deepEqual(states({ status: "authenticating" }), ["done", "done", "done", "current", "waiting"]);
  assert.deepEqual(states({ status: "completed" }), ["done", "done", "done", "done", "done"]);
  const no_sign_in = { ...session({}).sign_in, url: null, device_code: null };
  assert.deepEqual(states({ status: "failed", stage: "channel", sign_in: no_sign_in }), ["done", "failed", "waiting", "waiting", "waiting"]);
});

test("the position in the queue is shown", () => {
  assert.match(stepsOf(session({ status: "vm_creating", queue_position: 4 }))?.[0]?.detail ?? "", /Number 4/);
});

test("permissions are formatted as four octal digits", () => {
  assert.equal(formatMode(0o100600), "0600");
  assert.equal(formatMode(0o7), "0007");
});

const entry = (number: number): TimelineEntry => ({ number, at: "", kind: "unknown", sentence: `${number}`, data: {} });

test("a timeline contains each entry once, in order, independent of the order of arrival", () => {
  const merged = mergeTimeline([entry(2)], [entry(1), entry(2), entry(4)]);
  assert.deepEqual(merged.map((one) => one.number), [1, 2, 4]);
  assert.equal(mergeTimeline(merged, [entry(4)]), merged);
});

test("an ended session stays ended, and the state of an older machine is ignored", () => {
  assert.equal(supersedes(null, session({})), true);
  assert.equal(supersedes(session({ status: "completed" }), session({ status: "authenticating" })), false);
  assert.equal(supersedes(session({ generation: 2 }), session({ generation: 1 })), false);
  assert.equal(supersedes(session({ generation: 1 }), session({ generation: 2 })), true);
});

test("corrections of an on-screen keyboard become backspaces and letters", () => {
  assert.deepEqual(textChange("  he", "  hel"), { backspaces: 0, text: "l" });
  assert.deepEqual(textChange("  teh", "  the "), { backspaces: 2, text: "he " });
  assert.deepEqual(textChange("  ", " "), { backspaces: 1, text: "" });
});

test("characters are converted to X keysyms", () => {
  assert.equal(keysymOf("a"), 0x61);
  assert.equal(keysymOf("ä"), 0xe4);
  assert.equal(keysymOf("€"), 0x010020ac);
  assert.equal(keysymOf("\n"), 0xff0d);
});

test("helpers who came and left are named, and those who were only invited are not", () => {
  const helper = (name: string, status: HelperView["status"]): HelperView => ({ id: name, name, status, joined_at: null, last_seen_at: null, expires_at: null, address: null });
  const before = [helper("Ada", "connected"), helper("Bob", "away"), helper("Cy", "connected"), helper("Di", "invited")];
  const after = [helper("Ada", "connected"), helper("Bob", "connected"), helper("Cy", "away"), helper("Eve", "invited")];
  assert.equal(helperChanges(before, after), "Bob is watching. Cy stopped watching.");
  assert.equal(helperChanges(before, []), "Ada stopped watching. Cy stopped watching.");
  assert.equal(helperChanges(after, after), "");
});

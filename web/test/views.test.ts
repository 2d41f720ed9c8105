import assert from "node:assert/strict";
import test from "node:test";
import type { SessionView, TimelineEntry } from "../src/api";
import { keysymOf, typed } from "../src/keys";
import { mergeTimeline, supersedes } from "../src/merge";
import { stepsOf } from "../src/steps";
import { isOver, isReady, lanesWords, modeWords, STATUSES, stageWords, statusWords } from "../src/labels";
import sample from "./fixtures/session.json";

const session = (part: Partial<SessionView>): SessionView => ({ ...sample, credential: null, ...part });
const states = (part: Partial<SessionView>) => stepsOf(session(part))?.map((step) => step.state) ?? [];

test("every status shows a title and five steps", () => {
  for (const status of STATUSES) {
    assert.notEqual(statusWords(status).title, status);
    assert.equal(states({ status }).length, 5, status);
  }
});

test("an unknown status shows its raw text and keeps the session open", () => {
  assert.equal(statusWords("vm_paused").title, "vm_paused");
  assert.equal(stepsOf(session({ status: "vm_paused" })), null);
  assert.equal(isOver("vm_paused"), false);
  assert.equal(isReady("vm_paused"), true);
  assert.equal(stageWords("warp"), "warp");
  assert.equal(lanesWords(["telepathy"]), "telepathy");
});

test("the steps follow the state", () => {
  assert.deepEqual(states({ status: "vm_creating" }), ["current", "waiting", "waiting", "waiting", "waiting"]);
  assert.deepEqual(states({ status: "vm_created", stage: "hello" }), ["done", "current", "waiting", "waiting", "waiting"]);
  assert.deepEqual(states({ status: "vm_created", stage: "browser" }), ["done", "done", "current", "waiting", "waiting"]);
  assert.deepEqual(states({ status: "authenticating" }), ["done", "done", "done", "current", "waiting"]);
  assert.deepEqual(states({ status: "completed" }), ["done", "done", "done", "done", "done"]);
  const none = { ...session({}).sign_in, url: null, device_code: null };
  assert.deepEqual(states({ status: "failed", stage: "channel", sign_in: none }), ["done", "failed", "waiting", "waiting", "waiting"]);
});

test("a place in the queue is said", () => {
  assert.match(stepsOf(session({ status: "vm_creating", queue_position: 4 }))?.[0]?.detail ?? "", /Number 4/);
});

test("lanes read as one phrase", () => {
  assert.equal(lanesWords(["link"]), "a link in your own browser");
  assert.match(lanesWords(["link", "terminal"]), / or the tool's own prompts/);
});

test("permissions read as people write them", () => {
  assert.equal(modeWords(0o100600), "0600");
  assert.equal(modeWords(0o7), "0007");
});

const entry = (number: number): TimelineEntry => ({ number, at: "", kind: "k", sentence: `${number}`, data: {} });

test("a timeline holds each entry once, in order, whatever order they came in", () => {
  const some = mergeTimeline([entry(2)], [entry(1), entry(2), entry(4)]);
  assert.deepEqual(some.map((one) => one.number), [1, 2, 4]);
  assert.equal(mergeTimeline(some, [entry(4)]), some);
});

test("an ended session stays ended, and an older machine's state does not come back", () => {
  assert.equal(supersedes(null, session({})), true);
  assert.equal(supersedes(session({ status: "completed" }), session({ status: "authenticating" })), false);
  assert.equal(supersedes(session({ generation: 2 }), session({ generation: 1 })), false);
  assert.equal(supersedes(session({ generation: 1 }), session({ generation: 2 })), true);
});

test("an on-screen keyboard's corrections become backspaces and letters", () => {
  assert.deepEqual(typed("  he", "  hel"), { backspaces: 0, text: "l" });
  assert.deepEqual(typed("  teh", "  the "), { backspaces: 2, text: "he " });
  assert.deepEqual(typed("  ", " "), { backspaces: 1, text: "" });
});

test("characters are the keysyms X knows", () => {
  assert.equal(keysymOf("a"), 0x61);
  assert.equal(keysymOf("ä"), 0xe4);
  assert.equal(keysymOf("€"), 0x010020ac);
  assert.equal(keysymOf("\n"), 0xff0d);
});

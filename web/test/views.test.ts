import assert from "node:assert/strict";
import test from "node:test";
import type { HelperView, SessionView, Status, TimelineEntry } from "../src/api";
import { helperChanges } from "../src/helper-changes";
import { keysymOf, textChange } from "../src/keys";
import { mergeTimeline, supersedes } from "../src/merge";
import { preferredTab, tabsOf } from "../src/lanes";
import { startTimes, stepsOf } from "../src/steps";
import { hasEnded, formatMode, STATUSES } from "../src/labels";
import { SESSION } from "./fixtures/session";

const session = (part: Partial<SessionView>): SessionView => ({ ...SESSION, credential: null, ...part });
const NO_TIMES = { computer_ms: null, tool_ms: null };
const states = (part: Partial<SessionView>) => stepsOf(session(part), NO_TIMES)?.map((step) => step.state) ?? [];

test("every status shows four steps", () => {
  for (const status of STATUSES) {
    assert.equal(states({ status }).length, 4, status);
  }
});

test("an unknown status is shown unchanged and does not end the session", () => {
  assert.equal(stepsOf(session({ status: "vm_paused" as string as Status }), NO_TIMES), null);
  assert.equal(hasEnded("vm_paused"), false);
});

test("the steps follow the status and the situation", () => {
  const for_person = session({}).for_person;
  assert.deepEqual(states({ status: "vm_creating" }), ["current", "waiting", "waiting", "waiting"]);
  assert.deepEqual(states({ status: "vm_created", stage: "browser" }), ["current", "waiting", "waiting", "waiting"]);
  assert.deepEqual(states({ status: "vm_started", for_person: { ...for_person, situation: "tool_starting" } }), ["done", "current", "waiting", "waiting"]);
  assert.deepEqual(states({ status: "authenticating" }), ["done", "done", "current", "waiting"]);
  assert.deepEqual(states({ for_person: { ...for_person, situation: "saving" } }), ["done", "done", "done", "current"]);
  assert.deepEqual(states({ for_person: { ...for_person, phase: "needs_attention" } }), ["done", "done", "failed", "waiting"]);
  assert.deepEqual(states({ status: "completed" }), ["done", "done", "done", "done"]);
  const no_sign_in = { ...session({}).sign_in, url: null, device_code: null };
  assert.deepEqual(states({ status: "failed", stage: "channel", sign_in: no_sign_in }), ["failed", "waiting", "waiting", "waiting"]);
});

test("the steps show how long the present machine and its tool took to start", () => {
  const at = (kind: string, ms: number, number: number): TimelineEntry => ({
    number,
    at: new Date(Date.UTC(2026, 0, 1) + ms).toISOString(),
    kind: kind as TimelineEntry["kind"],
    sentence: "",
    data: {},
  });
  const first = [at("accepted", 0, 1), at("machine_requested", 100, 2), at("machine_ready", 9_100, 3), at("cli_started", 9_200, 4)];
  assert.deepEqual(startTimes(first), { computer_ms: 9_000, tool_ms: null });
  const replaced = [at("machine_requested", 20_000, 5), at("machine_ready", 20_600, 6), at("cli_started", 21_000, 7), at("device_code", 24_200, 8)];
  const times = startTimes([...first, ...replaced]);
  assert.deepEqual(times, { computer_ms: 600, tool_ms: 3_200 });
  const names = stepsOf(session({ credential_use: null }), times)?.map((step) => step.name);
  assert.deepEqual(names?.slice(0, 3), ["Temporary computer ready in 0.6 s", "Codex started in 3.2 s", "Waiting for you"]);
  const failed = session({ credential_use: null, for_person: { ...session({}).for_person, phase: "needs_attention" } });
  assert.equal(stepsOf(failed, times)?.[2]?.name, "Sign-in", "the person is not what failed");
  assert.deepEqual(startTimes([]), { computer_ms: null, tool_ms: null });
});

test("a method has the tabs of its lanes, and opens the preferred one", () => {
  const open = (part: Partial<SessionView>, view_only = false) => {
    const shown = session(part);
    const tabs = tabsOf(shown, view_only);
    return [tabs.join(" "), preferredTab(shown, tabs)];
  };
  assert.deepEqual(open({ lanes: ["device_code", "desktop", "terminal"] }), ["own desktop terminal", "own"]);
  assert.deepEqual(open({ lanes: ["desktop", "link", "terminal"] }), ["own desktop terminal", "desktop"]);
  assert.deepEqual(open({ lanes: ["desktop"] }), ["desktop", "desktop"]);
  assert.deepEqual(open({ lanes: ["terminal"] }), ["terminal", "terminal"]);
  assert.deepEqual(open({ lanes: ["link", "terminal"] }, true), ["desktop", "desktop"]);
  assert.deepEqual(open({ lanes: ["link", "terminal"], machine: "desk" }), ["desktop", "desktop"]);
  assert.deepEqual(open({ lanes: [] }), ["desktop", "desktop"]);
  assert.deepEqual(open({ lanes: ["fax" as "link"] }), ["desktop", "desktop"]);
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

// The German texts have the codes, values and functions of the English ones, and none of them is still in English.

import assert from "node:assert/strict";
import test from "node:test";
import english from "../person-texts.json";
import { ERROR_PAGE_TEXTS } from "../src/texts/error-pages";
import { de } from "../src/texts/de";
import { SERVER_TEXTS } from "../src/texts/de-server";
import { en } from "../src/texts/en";
import { Translation } from "../src/texts/translation";
import { SESSION } from "./fixtures/session";

/** Texts that are the same in both languages. */
const SAME = new Set(["OK", "Terminal", "Name", "Details", "QR-Code", "{first}", ""]);

/** The names in braces, each once. */
const namesIn = (text: string) => [...new Set(text.match(/\{\w+\}/g) ?? [])].sort();

/** Calls `compare` for each pair of texts; both have the same keys. */
function compareTexts(one: unknown, other: unknown, path: string, compare: (one: string, other: string, path: string) => void): void {
  assert.equal(typeof other, typeof one, path);
  if (typeof one === "string") {
    compare(one, other as string, path);
  } else if (typeof one === "function") {
    compare(called(one), called(other), path);
  } else {
    const [left, right] = [one, other] as Record<string, unknown>[];
    assert.deepEqual(Object.keys(right ?? {}).sort(), Object.keys(left ?? {}).sort(), path);
    for (const key of Object.keys(left ?? {})) compareTexts(left?.[key], right?.[key], `${path}.${key}`, compare);
  }
}

/** The text for values that can be found in it. */
function called(text: unknown): string {
  const write = text as (...values: unknown[]) => string;
  const names = write("{first}", "{second}", "{third}");
  return names.includes("NaN") || names.includes("Invalid") ? write(41, 42, 43).replace(/\b4[123]\b/g, (number) => `{n${number}}`) : names;
}

test("each German text has the values of the English one, and is not English", () => {
  compareTexts(en, de.texts, "texts", (one, other, path) => {
    assert.deepEqual(namesIn(other), namesIn(one), `${path}: ${other}`);
    assert.ok(one !== other || SAME.has(one.trim()), `${path} is not translated: ${one}`);
  });
  compareTexts(ERROR_PAGE_TEXTS.en, ERROR_PAGE_TEXTS.de, "error pages", (one, other, path) => assert.notEqual(one, other, path));
});

test("each text of the server for people has its German text with the same values", () => {
  const german = {
    situations: SERVER_TEXTS.situations,
    problems: SERVER_TEXTS.problems,
    ends: SERVER_TEXTS.ends,
    verdicts: SERVER_TEXTS.verdicts,
    owner: SERVER_TEXTS.owner,
    link_used: SERVER_TEXTS.link_used,
    policies: SERVER_TEXTS.policies,
    requests: Object.fromEntries(Object.entries(SERVER_TEXTS.requests).map(([policy, text]) => [policy, text + SERVER_TEXTS.request_return])),
    unexpected_address: SERVER_TEXTS.unexpected_address,
    descriptors: SERVER_TEXTS.descriptors,
  };
  const of_server = { ...english, descriptors: Object.fromEntries(english.descriptors.map((text) => [text, text])) };
  compareTexts(of_server, german, "server", (one, other, path) => {
    assert.deepEqual(namesIn(other), namesIn(one), `${path}: ${other}`);
    assert.ok(one !== other || namesIn(one).join("") === one, `${path} is not translated: ${one}`);
  });
});

const shown = (part: Partial<typeof SESSION.for_person>, values: Partial<typeof SESSION.for_person.values> = {}) => {
  const for_person = { ...SESSION.for_person, ...part, values: { ...SESSION.for_person.values, ...values } };
  const { title, sentence } = new Translation(SERVER_TEXTS).session({ ...SESSION, for_person }).for_person;
  return [title, sentence];
};

test("the German sentences of a session are written from its values", () => {
  assert.deepEqual(shown({ situation: "tool_starting" }), ["Codex wird gestartet…", ""]);
  assert.deepEqual(shown({ situation: "queued" }, { position: 3, wait_s: 100 })[1], "Sie haben Platz 3 in der Warteschlange. Etwa 2 Minuten.");
  assert.deepEqual(shown({ situation: "queued" }, { position: 1, wait_s: 30 })[1], "Als Nächstes sind Sie an der Reihe. Weniger als eine Minute.");
  assert.deepEqual(shown({ situation: "idle_expired" }, { idle_s_max: 3_600 })[1], "Geschlossen, weil die Sitzung 1 Stunde lang nicht verwendet wurde. Es wurde nichts gespeichert.");
  assert.deepEqual(shown({ situation: "machines_failed" }, { machines: 3 })[1], "Der temporäre Rechner wurde dreimal beendet. Es wurde nichts gespeichert.");
  assert.deepEqual(shown({ situation: "failed" }, { reason: "internal" })[1], `${SERVER_TEXTS.ends["internal"]} Es wurde nichts gespeichert.`);
  assert.deepEqual(shown({ situation: "host_unreachable" }, { host: "{tool}" })[1]?.includes("konnte {tool} von hier"), true, "a value is no template");
  const instruction = "Paste an API key of your OpenAI account.";
  assert.deepEqual(shown({ situation: "your_turn" }, { instruction }), ["Sie sind dran", SERVER_TEXTS.descriptors[instruction]]);
  assert.deepEqual(shown({ situation: "your_turn" }, { instruction: "Tippen Sie X." })[1], "Tippen Sie X.");
});

test("the German sentences about the remote browser are written from the values of its page", () => {
  const page = { situation: "page_unreachable", phase: "needs_attention", title: "", sentence: "", host: "id.example", actions: [], since: null, usual_s: null } as const;
  const sentence = (owner: string | null) => {
    const for_person = { ...SESSION.for_person, remote_browser: { ...page, actions: [] }, values: { ...SESSION.for_person.values, owner, host: null } };
    return new Translation(SERVER_TEXTS).session({ ...SESSION, for_person }).for_person.remote_browser?.sentence;
  };
  assert.equal(sentence("Ada"), "Der Remote-Browser kann id.example von hier nicht erreichen. Versuchen Sie es noch einmal, oder wenden Sie sich an Ada.");
  assert.equal(sentence(null), "Der Remote-Browser kann id.example von hier nicht erreichen. Versuchen Sie es noch einmal, oder wenden Sie sich an die Verwaltung dieser Seite.");
});

test("what a newer server sends is shown in its own words", () => {
  const future = { situation: "paused" as "queued", title: "Paused", sentence: "It waits." };
  assert.deepEqual(shown(future), ["Paused", "It waits."]);
  const translation = new Translation(SERVER_TEXTS);
  const problem = { code: "new_code", sentence: "", remedy: "", for_person: "Something new.", close_code: 4400 };
  assert.equal(translation.problem(problem), "Something new.");
  assert.equal(translation.problem({ ...problem, code: "internal" }), SERVER_TEXTS.problems["internal"]);
  assert.equal(translation.problem({ ...problem, code: "internal", close_code: 4410 }), SERVER_TEXTS.ends["internal"]);
});

// Compares the pages' types and values with the source of `crates/wire`, so that neither can change alone.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import type { SessionView } from "../src/api";
import { onClose } from "../src/close";
import { HEALTHS, LANES, STAGES, STATUSES } from "../src/labels";
import sample from "./fixtures/session.json";

declare const WEB: string;

const source = (file: string) => readFileSync(join(WEB, "../crates/wire/src", file), "utf8");
const api = source("api.rs") + source("api/credentials.rs");
const snake = (name: string) => name.replace(/(?<!^)[A-Z]/g, "_$&").toLowerCase();

function body(text: string, head: RegExp): string {
  const start = text.search(head);
  assert.notEqual(start, -1, `no ${String(head)} in the contract`);
  const open = text.indexOf("{", start);
  return text.slice(open + 1, text.indexOf("\n}", open));
}

function variants(text: string, name: string): string[] {
  return [...body(text, new RegExp(`pub enum ${name} `)).matchAll(/^ {4}([A-Z]\w*),/gm)].map((match) => snake(match[1] ?? ""));
}

function fields(name: string): string[] {
  return [...body(api, new RegExp(`pub struct ${name} `)).matchAll(/^ {4}pub (\w+):/gm)].map((match) => match[1] ?? "");
}

test("the page has words for every status, stage and lane of the contract, and for no other", () => {
  assert.deepEqual([...STATUSES].sort(), variants(api, "Status").sort());
  assert.deepEqual([...STAGES], variants(source("agent/hello.rs"), "Stage"));
  assert.deepEqual([...LANES].sort(), variants(source("provider.rs"), "Lane").sort());
  assert.deepEqual([...HEALTHS].sort(), variants(api, "CredentialHealth").sort());
});

test("a session's fields are the contract's", () => {
  const session: SessionView = sample;
  assert.deepEqual(Object.keys(session).sort(), fields("SessionView").sort());
  assert.deepEqual(Object.keys(session.sign_in).sort(), fields("SignInView").sort());
  assert.deepEqual(Object.keys(session.sign_in.prompt ?? {}).sort(), fields("PromptView").sort());
  assert.deepEqual(Object.keys(session.methods[0] ?? {}).sort(), fields("MethodView").sort());
  assert.deepEqual(Object.keys(session.credential_use ?? {}).sort(), fields("UseView").sort());
  assert.deepEqual(Object.keys(session.credential ?? {}).sort(), fields("CredentialMeta").sort());
  assert.deepEqual(Object.keys(session.credential?.files[0] ?? {}).sort(), fields("CredentialFile").sort());
});

test("every close code of the contract has an action that says something", () => {
  const codes = [...source("problem.rs").matchAll(/^ {4}\w+ = "(\w+)", \d{3}, (\d{4}), "([^"]+)"/gm)];
  assert.ok(codes.length > 30, `only ${codes.length} problems were found in the contract`);
  for (const [, code, close, sentence] of codes) {
    const action = onClose(Number(close), `${code}: ${sentence}`, true);
    assert.equal(action.say, sentence, code);
    assert.notEqual(onClose(Number(close), "", true).say, "", code);
  }
});

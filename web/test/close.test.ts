import assert from "node:assert/strict";
import test from "node:test";
import { backoff_ms, longest_ms, onClose, sentenceOf } from "../src/close";

test("what may get better is tried again, what will not is said", () => {
  for (const code of [4510, 4409, 4502, 4503, 4500, 4504, 1001, 1006, 1011, 1012]) {
    assert.equal(onClose(code, "", false).do, "reconnect", String(code));
  }
  for (const code of [4403, 4404, 4429, 4408, 4400, 4999]) {
    assert.equal(onClose(code, "", false).do, "stop", String(code));
  }
  assert.equal(onClose(4410, "", false).do, "over");
});

test("a ticket that is too old is renewed once, not for ever", () => {
  assert.equal(onClose(4401, "", false).do, "new_ticket");
  assert.equal(onClose(4401, "", true).do, "stop");
});

test("people read the sentence, not the code", () => {
  assert.equal(sentenceOf("not_ready: The machine is not ready yet."), "The machine is not ready yet.");
  assert.equal(sentenceOf("Going away"), "Going away");
  assert.equal(sentenceOf(""), null);
});

test("an unknown close code shows the server's raw words, or its number", () => {
  assert.equal(onClose(4777, "future: Something new.", false).say, "Something new.");
  assert.match(onClose(4777, "", false).say, /4777/);
});

test("the back-off doubles, is spread by chance, and has an end", () => {
  assert.equal(backoff_ms(0, 0), 200);
  assert.equal(backoff_ms(0, 1), 400);
  assert.equal(backoff_ms(3, 1), 3_200);
  for (let attempt = 0; attempt < 200; attempt += 1) {
    assert.ok(backoff_ms(attempt, 1) <= 10_000);
    assert.ok(backoff_ms(attempt, 0) >= 200);
  }
});

test("a server that is away is looked for often at first and seldom later; a busy one is not hurried", () => {
  for (const [code, reason] of [[1006, ""], [1012, ""], [4503, "shutting_down: The server is shutting down."]] as const) {
    const action = onClose(code, reason, false);
    assert.equal(action.do, "reconnect");
    assert.equal(longest_ms(action as { soon?: boolean }, 10), 1_500, String(code));
    assert.equal(longest_ms(action as { soon?: boolean }, 1_000), 10_000, String(code));
  }
  assert.equal(longest_ms(onClose(4503, "no_capacity: There is no room.", false) as { soon?: boolean }, 0), 10_000);
});

import assert from "node:assert/strict";
import test from "node:test";
import { accessEnded } from "../src/access-ended";
import { backoff_ms, maxBackoff_ms, closeAction } from "../src/close";

test("temporary close codes reconnect, permanent ones stop", () => {
  for (const code of [4510, 4409, 4502, 4503, 4500, 4504, 1001, 1006, 1011, 1012]) {
    assert.equal(closeAction(code, "", false).kind, "reconnect", String(code));
  }
  for (const code of [4403, 4404, 4429, 4408, 4400, 4511, 4001, 4999]) {
    assert.equal(closeAction(code, "", false).kind, "stop", String(code));
  }
  assert.equal(closeAction(4410, "", false).kind, "ended");
});

test("access that was revoked or has expired stops, with words of its own for each and no new attempt", () => {
  const [revoked, expired] = [closeAction(4411, "caller_revoked: The token or cookie of this connection was revoked.", false), closeAction(4412, "", true)];
  assert.deepEqual([revoked.kind, expired.kind], ["access_ended", "access_ended"]);
  assert.notEqual(revoked.message, expired.message);
  for (const code of [4411, 4412, 4414]) {
    const ended = accessEnded(code);
    assert.match(ended?.remedy ?? "", code === 4414 ? /another link/ : /Sign in again/);
    assert.doesNotMatch(`${ended?.title} ${ended?.text}`, /token|cookie|reconnect/i);
  }
  assert.equal(accessEnded(4401), null);
});

test("an expired ticket is renewed once", () => {
  assert.equal(closeAction(4401, "", false).kind, "new_ticket");
  assert.equal(closeAction(4401, "", true).kind, "stop");
});

test("the message is for people, whatever the server's reason is", () => {
  for (const code of [4510, 4409, 4502, 4503, 4500, 1006, 4401, 4410, 4403, 4404, 4408, 4429, 4511, 4001, 4777]) {
    const { message } = closeAction(code, "machine_failed: The machine ended; see /api and `anteroom doctor`.", true);
    assert.match(message, /[a-z].*[.…]$/, String(code));
    assert.doesNotMatch(message, /machine|session|anteroom|server|[`/_]|\d/i, String(code));
  }
});

test("r25_desktop that refuses for good is shown in its own words, with a button and without new attempts", () => {
  const codes = ["external_security_unsupported", "external_password_rejected", "external_rejected"];
  const actions = codes.map((code) => closeAction(4511, `${code}: The external desktop…`, false));
  assert.equal(new Set(actions.map((action) => action.message)).size, 3);
  for (const action of actions) assert.deepEqual([action.kind, "can_retry" in action && action.can_retry], ["stop", true]);
});

test("a host that does not answer is tried again, with the time until another one takes over", () => {
  const reason = "host_unreachable: host h2 silent since 17:01:05Z; another begins at 17:01:20Z (in 12 s) unless it comes back";
  const action = closeAction(4511, reason, false);
  assert.equal(action.kind, "reconnect");
  assert.match(action.message, /12 seconds/);
  assert.doesNotMatch(closeAction(4511, "host_unreachable: The host…", false).message, /\d/);
});

test("the back-off doubles, is randomized and has a maximum", () => {
  assert.equal(backoff_ms(0, 0), 200);
  assert.equal(backoff_ms(0, 1), 400);
  assert.equal(backoff_ms(3, 1), 3_200);
  for (let attempt = 0; attempt < 200; attempt += 1) {
    assert.ok(backoff_ms(attempt, 1) <= 10_000);
    assert.ok(backoff_ms(attempt, 0) >= 200);
  }
});

test("a server that is away is retried fast at first and slowly later; a busy server is not retried fast", () => {
  for (const [code, reason] of [[1006, ""], [1012, ""], [4503, "shutting_down: The server is shutting down."]] as const) {
    const action = closeAction(code, reason, false);
    assert.equal(action.kind, "reconnect");
    assert.equal(maxBackoff_ms(action as { fast?: boolean }, 10), 1_500, String(code));
    assert.equal(maxBackoff_ms(action as { fast?: boolean }, 1_000), 10_000, String(code));
  }
  assert.equal(maxBackoff_ms(closeAction(4503, "no_capacity: There is no capacity.", false) as { fast?: boolean }, 0), 10_000);
});

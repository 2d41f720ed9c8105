import assert from "node:assert/strict";
import test from "node:test";
import { formatClock, Clock, remaining_ms } from "../src/clock";

test("the remaining time is never negative, and null for an invalid time", () => {
  const now = Date.parse("2026-11-22T10:00:00.000Z");
  assert.equal(remaining_ms("2026-11-22T10:00:01.500Z", now), 1_500);
  assert.equal(remaining_ms("2026-11-22T09:00:00.000Z", now), 0);
  assert.equal(remaining_ms(null, now), null);
  assert.equal(remaining_ms("soon", now), null);
});

test("durations are formatted as clocks", () => {
  assert.equal(formatClock(0), "0:00");
  assert.equal(formatClock(8_200), "0:09");
  assert.equal(formatClock(754_000), "12:34");
  assert.equal(formatClock(3_723_000), "1:02:03");
});

test("the server's clock is used when the local clock is wrong; small differences are ignored", () => {
  const clock = new Clock(() => 1_000_000);
  clock.synchronize(new Date(1_000_000).toUTCString());
  assert.equal(clock.now_ms(), 1_000_000);
  clock.synchronize(new Date(4_600_000).toUTCString());
  assert.equal(clock.now_ms(), 4_600_500);
  clock.synchronize(null);
  clock.synchronize("nonsense");
  assert.equal(clock.now_ms(), 4_600_500);
});

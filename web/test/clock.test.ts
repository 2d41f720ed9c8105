import assert from "node:assert/strict";
import test from "node:test";
import { asClock, asWords, Clock, left_ms } from "../src/clock";

test("a countdown never goes below zero and knows what is no time", () => {
  const now = Date.parse("2026-11-22T10:00:00.000Z");
  assert.equal(left_ms("2026-11-22T10:00:01.500Z", now), 1_500);
  assert.equal(left_ms("2026-11-22T09:00:00.000Z", now), 0);
  assert.equal(left_ms(null, now), null);
  assert.equal(left_ms("soon", now), null);
});

test("durations read like clocks", () => {
  assert.equal(asClock(0), "0:00");
  assert.equal(asClock(8_200), "0:09");
  assert.equal(asClock(754_000), "12:34");
  assert.equal(asClock(3_723_000), "1:02:03");
  assert.equal(asWords(20_000), "less than a minute");
  assert.equal(asWords(1_500_000), "about 25 minutes");
});

test("deadlines go by the server's clock when this machine's is wrong, and small differences are noise", () => {
  const clock = new Clock(() => 1_000_000);
  clock.heard(new Date(1_000_000).toUTCString());
  assert.equal(clock.now_ms(), 1_000_000);
  clock.heard(new Date(4_600_000).toUTCString());
  assert.equal(clock.now_ms(), 4_600_500);
  clock.heard(null);
  clock.heard("nonsense");
  assert.equal(clock.now_ms(), 4_600_500);
});

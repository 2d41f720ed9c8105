import assert from "node:assert/strict";
import test from "node:test";
import { EventParser } from "../src/event-stream";

function parse(...parts: string[]) {
  const events: [string, string][] = [];
  const parser = new EventParser((name, data) => events.push([name, data]));
  for (const part of parts) parser.push(part);
  return { events, retry_ms: parser.retry_ms };
}

test("events are parsed whatever parts they arrive in", () => {
  const text = 'retry: 300\nevent: session\ndata: {"a":1}\n\n: comment\n\nid: 7\nevent:timeline\r\ndata: one\r\ndata: two\r\n\r\ndata: last\n\n';
  const expected = [
    ["session", '{"a":1}'],
    ["timeline", "one\ntwo"],
    ["message", "last"],
  ];
  assert.deepEqual(parse(text), { events: expected, retry_ms: 300 });
  assert.deepEqual(parse(...text), { events: expected, retry_ms: 300 });
});

test("an incomplete event is not delivered", () => {
  assert.deepEqual(parse("event: session\ndata: {").events, []);
});

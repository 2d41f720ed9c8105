// Compares the pages with the API's OpenAPI document, where types cannot: the order of the boot stages and the close codes.
// That the labels cover all values and the fixture has all fields is checked by the types (`npm run check`).

import assert from "node:assert/strict";
import test from "node:test";
import openapi from "../openapi.json";
import { closeAction } from "../src/close";
import { STAGES, STATUSES } from "../src/labels";

const schemas = openapi.components.schemas;

test("the pages have a label for every status and stage of the API, the stages in boot order", () => {
  assert.deepEqual([...STATUSES].sort(), [...schemas.SessionStatus.enum].sort());
  assert.deepEqual(STAGES, schemas.Stage.enum);
});

test("every close code of the API has an action with a message", () => {
  const close_codes = schemas.ProblemBody.properties.close_code.enum;
  assert.ok(close_codes.length > 10, `only ${close_codes.length} close codes`);
  for (const close_code of close_codes) {
    assert.notEqual(closeAction(close_code, "", true).message, "", String(close_code));
  }
});

// Signs in to the demo with an API key, with the TypeScript client. Arguments: the client's module, the one of `ws`, the server's address,
// the address of the demo's pages.

import assert from "node:assert/strict";

const [clientModule, wsModule, baseUrl, pages] = process.argv.slice(2);
const { Anteroom, ApiError } = await import(clientModule);
const { WebSocket } = await import(wsModule);
const anteroom = new Anteroom({ baseUrl, token: process.env.TOKEN, WebSocket });

const { providers } = await anteroom.request("get", "/api/providers", {});
assert.ok(providers.some(({ id }) => id === "demo"));
const body = { provider: "demo", method: "api_key", user_id: "u-18" };
const { session } = await anteroom.request("post", "/api/auth/start", { body });
const page = await fetch(`${pages}/key`, { method: "POST", body: new URLSearchParams({ name: "Ben" }), headers: { Accept: "text/html" } });
const [key] = /demo_key_[0-9a-f]{64}/.exec(await page.text());

let pasted = false;
let view = null;
const numbers = [];
for await (const { type, data } of anteroom.sessionEvents(session.id)) {
  if (type === "timeline") numbers.push(data.number);
  if (type !== "session") continue;
  view = data;
  if (data.sign_in.prompt === null || pasted) continue;
  const terminal = await anteroom.openTerminal(session.id, { cols: 100, rows: 30 });
  const first = await new Promise((resolve) => terminal.addEventListener("message", resolve, { once: true }));
  assert.ok(first.data instanceof ArrayBuffer);
  terminal.close();
  await anteroom.request("post", "/api/auth/session/{id}/paste", { path: { id: session.id }, body: { text: key } });
  pasted = true;
}
assert.equal(view.status, "completed");
assert.deepEqual(numbers, numbers.toSorted((one, other) => one - other));
const lease = await anteroom.request("post", "/api/credentials/{id}/lease", { path: { id: view.credential.id } });
assert.equal(JSON.parse(Buffer.from(lease.files[0].content, "base64").toString()).account, "Ben");
const unknown = anteroom.request("get", "/api/auth/session/{id}", { path: { id: `ses_${"0".repeat(26)}` } });
await assert.rejects(unknown, (error) => error instanceof ApiError && error.status === 404 && error.problem.code === "unknown_session");
console.log("signed in as Ben");

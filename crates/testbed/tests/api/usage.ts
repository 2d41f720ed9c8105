// What the types of the TypeScript client permit; only compiled.

import { Anteroom, type Schemas } from "./index.js";

export async function leasedFiles(anteroom: Anteroom): Promise<string[]> {
  const list: Schemas["SessionList"] = await anteroom.request("get", "/api/sessions", { query: { limit: 10, state: "completed" } });
  const id = list.sessions[0]?.credential?.id ?? "";
  const lease = await anteroom.request("post", "/api/credentials/{id}/lease", { path: { id } });
  const nothing: undefined = await anteroom.request("delete", "/api/credentials/{id}", { path: { id } });
  // @ts-expect-error: the operation needs an id.
  await anteroom.request("get", "/api/credentials/{id}", {});
  // @ts-expect-error: the operation needs a body.
  await anteroom.request("post", "/api/auth/start", {});
  return lease.files.map(({ path, mode, content }) => `${path} ${mode} ${content.length} ${String(nothing)}`);
}

// A backend that lets its people connect a tool with Anteroom: npm install && npm start
//
// Environment: ANTEROOM_URL (where the API is), ANTEROOM_TOKEN_FILE (an API token), PROVIDER (default demo), PORT (default 8081).
// Anteroom's configuration: `[http] frame_ancestors = ["http://localhost:8081"]`; without it, a browser shows no frame of it here.

import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

const ANTEROOM = process.env["ANTEROOM_URL"] ?? "http://127.0.0.1:7060";
const TOKEN = readFileSync(process.env["ANTEROOM_TOKEN_FILE"] ?? "token", "utf8").trim();
const FILES = { "/": ["page.html", "text/html"], "/done": ["page.html", "text/html"], "/page.js": ["page.js", "text/javascript"] } as const;
/** The sessions of this backend; a real one keeps them with the person who started each. */
const started = new Set<string>();

async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  const headers = { Authorization: `Bearer ${TOKEN}`, "Content-Type": "application/json" };
  const response = await fetch(ANTEROOM + path, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  // An error has a code, a sentence and a remedy.
  if (!response.ok) throw new Error(((await response.json()) as { sentence: string }).sentence);
  return (await response.json()) as T;
}

async function connect(host: string): Promise<unknown> {
  const request = { provider: process.env["PROVIDER"] ?? "demo", user_id: "u-17", return_url: `http://${host}/done` };
  const answer = await call<{ session: { id: string }; viewer_url: string }>("POST", "/api/auth/start", request);
  started.add(answer.session.id);
  return { session: answer.session.id, url: answer.viewer_url };
}

/** What became of a session, from the API alone: the page and the return address only name it. */
async function result(session: string): Promise<unknown> {
  if (!started.has(session)) throw new Error("not a session of this backend");
  const { status } = await call<{ status: string }>("GET", `/api/auth/session/${session}`);
  const files: string[] = [];
  if (status === "completed") {
    const { credentials } = await call<{ credentials: { id: string }[] }>("GET", `/api/auth/session/${session}/credentials`);
    for (const { id } of credentials) {
      // The contents of the files stay in the backend.
      const lease = await call<{ files: { path: string }[] }>("POST", `/api/credentials/${id}/lease`, {});
      files.push(...lease.files.map((file) => file.path));
    }
  }
  return { status, files };
}

async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? "/", "http://localhost");
  const file = FILES[url.pathname as keyof typeof FILES];
  const json = (body: unknown) => response.setHeader("Content-Type", "application/json").end(JSON.stringify(body));
  // Only this site's own page may start a session for a person.
  const is_own_page = request.headers["sec-fetch-site"] === "same-origin";
  if (request.method === "GET" && file !== undefined) {
    response.setHeader("Content-Type", `${file[1]}; charset=utf-8`).end(readFileSync(new URL(file[0], import.meta.url)));
  } else if (request.method === "POST" && url.pathname === "/connect" && is_own_page) json(await connect(request.headers.host ?? ""));
  else if (request.method === "GET" && url.pathname === "/session") json(await result(url.searchParams.get("session") ?? ""));
  else response.writeHead(404).end("Not found");
}

const server = createServer((request, response) => {
  handle(request, response).catch((error: unknown) => response.writeHead(502).end(JSON.stringify({ sentence: String(error) })));
});
server.listen(Number(process.env["PORT"] ?? "8081"), "127.0.0.1", () => {
  console.log(`http://localhost:${(server.address() as AddressInfo).port}/`);
});

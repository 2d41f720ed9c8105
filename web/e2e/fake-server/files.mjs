// The pages and their files, from `dist`, as the real server sends them.

import { readFile } from "node:fs/promises";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const DIST = join(dirname(fileURLToPath(import.meta.url)), "../../dist");

/** The header that the real server sends. */
export const CONTENT_SECURITY_POLICY =
  "default-src 'self'; connect-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; " +
  "frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'";

const TYPES = /** @type {Record<string, string>} */ ({
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".txt": "text/plain; charset=utf-8",
});

/** The HTML files of the pages, as in the real server. @type {Record<string, string>} */
const PAGES = {
  "/": "index.html",
  "/login": "login.html",
  "/sign-in/callback": "sign-in-callback.html",
  "/dashboard/remote-cli": "index.html",
  "/dashboard/remote-cli/auth": "session.html",
};

/** Whether the real server sends the German pages: the person's choice, else the first language of the browser. @param {import("node:http").IncomingMessage} request */
function isGerman({ headers }) {
  const chosen = /\banteroom_language=(\w+)/.exec(headers.cookie ?? "")?.[1];
  return (chosen ?? headers["accept-language"] ?? "").startsWith("de");
}

/**
 * Serves a page or one of its files. Returns whether the path has one.
 * @param {string} path @param {import("node:http").IncomingMessage} request @param {import("node:http").ServerResponse} response
 */
export async function servePage(path, request, response) {
  const is_desktop = /^\/api\/auth\/session\/[^/]+\/novnc$/.test(path);
  const is_nothing = !path.startsWith("/api/") && (request.headers.accept ?? "").includes("text/html");
  const english =
    PAGES[path] ??
    (/^\/admin(\/|$)/.test(path) ? "admin.html" : null) ??
    (is_desktop ? "desktop.html" : path.startsWith("/assets/") ? normalize(path).slice(1) : is_nothing ? "errors/404.html" : null);
  if (english === null) return false;
  // The operators' pages are in English alone.
  const name = isGerman(request) && english !== "admin.html" ? english.replace(/\.html$/, ".de.html") : english;
  const plain = await readFile(join(DIST, name)).catch(() => null);
  const compressed = (request.headers["accept-encoding"] ?? "").includes("br") ? await readFile(join(DIST, `${name}.br`)).catch(() => null) : null;
  response.writeHead(plain === null || name.startsWith("errors/") ? 404 : 200, {
    "Content-Type": TYPES[extname(name)] ?? "application/octet-stream",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": path.startsWith("/assets/") ? "public, max-age=31536000, immutable" : "no-cache",
    ...(compressed === null ? {} : { "Content-Encoding": "br" }),
  });
  response.end(compressed ?? plain ?? "");
  return true;
}

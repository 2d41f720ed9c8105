// The page of the example: opens the session's page in a frame, in a popup or in this tab.

interface Started {
  session: string;
  url: string;
}

/** docs/embedding.md describes the messages. */
interface AnteroomMessage {
  type: "anteroom.ready" | "anteroom.status" | "anteroom.done";
  version: 1;
  session: string;
  status: string;
  reason: string | null;
}

const element = (id: string) => document.getElementById(id) as HTMLElement;
const show = (text: string) => (element("status").textContent = text);
let started: Started | null = null;

async function requestJson<T>(path: string, method = "GET"): Promise<T> {
  const response = await fetch(path, { method });
  if (!response.ok) throw new Error(((await response.json()) as { sentence: string }).sentence);
  return (await response.json()) as T;
}

const connect = async () => (started = await requestJson<Started>("/connect", "POST"));

/** Asks this site's backend: what a message or an address claims may be forged. */
async function finish(session: string): Promise<void> {
  const { status, files } = await requestJson<{ status: string; files: string[] }>(`/session?session=${encodeURIComponent(session)}`);
  show(status === "completed" ? `Connected: ${files.join(", ")}` : `Not connected: ${status}`);
  element("place").replaceChildren();
}

window.addEventListener("message", (event: MessageEvent<AnteroomMessage>) => {
  // Only messages of Anteroom's page about the session that this page started.
  if (started === null || event.origin !== new URL(started.url).origin || event.data.session !== started.session) return;
  if (event.data.type === "anteroom.ready") show("Sign in below.");
  if (event.data.type === "anteroom.done") void finish(started.session);
});

function onClick(id: string, open: () => Promise<void>): void {
  element(id).onclick = () => void open().catch((error: unknown) => show(String(error)));
}

onClick("frame", async () => {
  const frame = document.createElement("iframe");
  frame.title = "Sign in";
  frame.allow = "clipboard-read; clipboard-write; fullscreen";
  frame.src = (await connect()).url;
  element("place").replaceChildren(frame);
});
onClick("popup", async () => {
  // Before the request: a browser blocks a window that does not follow a click at once.
  const popup = window.open("about:blank", "anteroom", "width=1280,height=900");
  if (popup !== null) popup.location = (await connect()).url;
});
onClick("page", async () => window.location.assign((await connect()).url));

const returned = new URLSearchParams(window.location.search).get("session");
if (returned !== null) void finish(returned);

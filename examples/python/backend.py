"""A backend that lets its people connect a tool with Anteroom: python3 backend.py

Environment: ANTEROOM_URL (where the API is), ANTEROOM_TOKEN_FILE (an API token), PROVIDER (default demo), PORT (default 8081).
Anteroom's configuration: `[http] frame_ancestors = ["http://localhost:8081"]`; without it, a browser shows no frame of it here.
"""
import json
import os
import pathlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

ANTEROOM = os.environ["ANTEROOM_URL"].rstrip("/")
TOKEN = pathlib.Path(os.environ["ANTEROOM_TOKEN_FILE"]).read_text().strip()
PAGE = pathlib.Path(__file__).with_name("page.html").read_bytes()
started = set()  # the sessions of this backend; a real one keeps them with the person who started each


def call(method, path, body=None):
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(ANTEROOM + path, data, headers, method=method), timeout=30) as response:
        return json.load(response)


class Backend(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/session":  # The page and the return address name a session; what it became comes from the API alone.
            self.answer(*self.result(parse_qs(url.query).get("session", [""])[0]))
        elif url.path in ("/", "/done"):
            self.answer(200, PAGE, "text/html; charset=utf-8")
        else:
            self.answer(404, b"Not found", "text/plain")

    def do_POST(self):
        # Only this site's own page may start a session for a person.
        if self.path != "/connect" or self.headers.get("Sec-Fetch-Site") != "same-origin":
            return self.answer(403, b"Forbidden", "text/plain")
        here = f"http://{self.headers['Host']}/done"
        request = {"provider": os.environ.get("PROVIDER", "demo"), "user_id": "u-17", "return_url": here}
        try:
            answer = call("POST", "/api/auth/start", request)
        except HTTPError as error:  # The body has a code, a sentence and a remedy.
            return self.answer(502, error.read())
        started.add(answer["session"]["id"])
        self.answer(200, json.dumps({"session": answer["session"]["id"], "url": answer["viewer_url"]}).encode())

    def result(self, session):
        if session not in started:
            return 404, b'{"error":"not a session of this backend"}'
        status = call("GET", f"/api/auth/session/{session}")["status"]
        credentials = call("GET", f"/api/auth/session/{session}/credentials")["credentials"] if status == "completed" else []
        leases = [call("POST", f"/api/credentials/{credential['id']}/lease", {}) for credential in credentials]
        files = [file["path"] for lease in leases for file in lease["files"]]  # The contents stay in the backend.
        return 200, json.dumps({"status": status, "files": files}).encode()

    def answer(self, status, body, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8081"))), Backend)
    print(f"http://localhost:{server.server_port}/", flush=True)
    server.serve_forever()

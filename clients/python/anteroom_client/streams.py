"""Server-sent events."""

import json
import time
from collections.abc import Iterator

import httpx

from .api_client import AuthenticatedClient
from .api_client.models import HelperList, SessionView, TimelineEntry
from .errors import ApiError, error_of

_ENDED = {"completed", "failed", "cancelled", "expired"}
_TYPES = {"session": SessionView, "timeline": TimelineEntry, "helpers": HelperList}
_READ_TIMEOUT_S = 60
_RETRY_S = 1


def session_events(client: AuthenticatedClient, session: str, after: int = 0) -> Iterator[SessionView | TimelineEntry | HelperList]:
    """Follows a session until it has ended. `after`: the number of the last known timeline entry.

    Connects again when the connection breaks. Raises `ApiError` if the server refuses the stream or ends it because the caller was revoked.
    """
    last, has_ended = str(after), False
    while not has_ended:
        try:
            for kind, number, data in _read(client, session, last):
                last = number or last
                if kind == "closed":
                    raise ApiError(401, data)
                if kind in _TYPES:
                    has_ended |= kind == "session" and data["status"] in _ENDED
                    yield _TYPES[kind].from_dict(data)
        except httpx.TransportError:
            time.sleep(_RETRY_S)


def _read(client: AuthenticatedClient, session: str, last: str) -> Iterator[tuple[str, str | None, dict]]:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
    timeout = httpx.Timeout(10, read=_READ_TIMEOUT_S)
    path = f"/api/auth/session/{session}/events"
    with client.get_httpx_client().stream("GET", path, headers=headers, timeout=timeout) as response:
        if response.status_code >= 400:
            raise error_of(response.status_code, response.read())
        if response.status_code == 204:
            # It has ended, and all entries are known.
            view = client.get_httpx_client().get(f"/api/auth/session/{session}").raise_for_status()
            yield "session", None, view.json()
        kind, number, data = "message", None, []
        for line in response.iter_lines():
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if line == "":
                if data:
                    yield kind, number, json.loads("\n".join(data))
                kind, number, data = "message", None, []
            elif field == "event":
                kind = value
            elif field == "id":
                number = value
            elif field == "data":
                data.append(value)

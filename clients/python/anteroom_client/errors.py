"""Answers and errors."""

import json
from typing import Any

from .api_client.types import Response


class ApiError(Exception):
    """An error of the API. `code` is stable; `sentence` and `remedy` are for people who operate a server or a backend."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status} {body.get('code')}: {body.get('sentence')} {body.get('detail') or ''}".strip())
        self.status = status
        self.code: str = body.get("code", f"http_{status}")
        self.sentence: str = body.get("sentence", "")
        self.remedy: str = body.get("remedy", "")
        self.body = body


def checked(response: Response[Any]) -> Any:
    """The parsed answer of a `sync_detailed` call. Raises `ApiError` if the server refused the request."""
    if response.status_code < 400:
        return response.parsed
    raise error_of(response.status_code, response.content)


def error_of(status: int, content: bytes) -> ApiError:
    """The error in an answer; a proxy's answer has no body of this API."""
    try:
        body = json.loads(content)
    except ValueError:
        body = {}
    return ApiError(int(status), body if isinstance(body, dict) else {})

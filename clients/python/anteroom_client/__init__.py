"""A typed client of Anteroom's API: generated operations in `api_client`, and helpers for what OpenAPI cannot describe."""

from .api_client import AuthenticatedClient, Client
from .errors import ApiError, checked
from .sockets import open_desktop, open_terminal
from .streams import session_events

__all__ = [
    "ApiError",
    "AuthenticatedClient",
    "Client",
    "checked",
    "open_desktop",
    "open_terminal",
    "session_events",
]

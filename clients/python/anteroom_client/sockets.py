"""WebSockets of a session."""

from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from .api_client import AuthenticatedClient
from .api_client.api.sign_in import create_ticket
from .api_client.models import TicketRequest, TicketTarget
from .errors import checked


def open_terminal(client: AuthenticatedClient, session: str, cols: int = 80, rows: int = 24) -> ClientConnection:
    """Opens the tool's terminal: binary messages in both directions; the text message `{"cols":120,"rows":40}` changes its size."""
    return _open(client, session, TicketRequest(purpose=TicketTarget.TERMINAL), f"terminal?cols={cols}&rows={rows}")


def open_desktop(client: AuthenticatedClient, session: str, view_only: bool = False) -> ClientConnection:
    """Opens the desktop: RFB 3.8 in binary messages."""
    return _open(client, session, TicketRequest(purpose=TicketTarget.DESKTOP, view_only=view_only), "novnc/websock")


def _open(client: AuthenticatedClient, session: str, request: TicketRequest, path: str) -> ClientConnection:
    ticket = checked(create_ticket.sync_detailed(session, client=client, body=request)).ticket
    base = str(client.get_httpx_client().base_url).rstrip("/").replace("http", "ws", 1)
    return connect(
        f"{base}/api/auth/session/{session}/{path}",
        subprotocols=[Subprotocol("binary"), Subprotocol(f"ticket.{ticket}")],
        additional_headers={"Authorization": f"{client.prefix} {client.token}"},
        max_size=None,
    )

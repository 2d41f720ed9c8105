"""Signs in to the demo with an API key, with the Python client. Arguments: the server's address, the address of the demo's pages."""

import base64
import json
import os
import re
import sys
import urllib.parse
import urllib.request

from anteroom_client import ApiError, AuthenticatedClient, checked, open_terminal, session_events
from anteroom_client.api_client.api.credentials import get_credential, lease_credential
from anteroom_client.api_client.api.health import get_metrics
from anteroom_client.api_client.api.providers import list_providers
from anteroom_client.api_client.api.sessions import get_diagnosis, get_session, get_session_events
from anteroom_client.api_client.api.sign_in import submit_paste
from anteroom_client.api_client.api.start import start_session
from anteroom_client.api_client.models import PasteRequest, SessionStatus, SessionView, StartRequest, TimelineEntry, Verdict

base, pages = sys.argv[1:]
client = AuthenticatedClient(base_url=base, token=os.environ["TOKEN"], httpx_args={"trust_env": False})

assert "demo" in [provider.id for provider in checked(list_providers.sync_detailed(client=client)).providers]
request = StartRequest(provider="demo", method="api_key", user_id="u-17", idempotency_key="key-1")
started = checked(start_session.sync_detailed(client=client, body=request))
assert checked(start_session.sync_detailed(client=client, body=request)).session.id == started.session.id
session = started.session.id

form = urllib.parse.urlencode({"name": "Ada"}).encode()
with urllib.request.urlopen(urllib.request.Request(f"{pages}/key", form, {"Accept": "text/html"})) as page:
    key = re.search(r"demo_key_[0-9a-f]{64}", page.read().decode()).group()

pasted, numbers, view = False, [], None
for event in session_events(client, session):
    if isinstance(event, TimelineEntry):
        numbers.append(event.number)
    if not isinstance(event, SessionView):
        continue
    view = event
    if event.sign_in.prompt is not None and not pasted:
        with open_terminal(client, session, cols=100, rows=30) as terminal:
            assert isinstance(terminal.recv(timeout=60), bytes)
        checked(submit_paste.sync_detailed(session, client=client, body=PasteRequest(text=key)))
        pasted = True
assert view.status == SessionStatus.COMPLETED and numbers == sorted(numbers), (view.status, numbers)

entries = checked(get_session_events.sync_detailed(session, client=client)).entries
assert [entry.number for entry in entries][: len(numbers)] == numbers and entries[0].at.tzinfo is not None
assert checked(get_diagnosis.sync_detailed(session, client=client)).verdict == Verdict.COMPLETED
stored = checked(get_credential.sync_detailed(view.credential.id, client=client))
assert (stored.account, stored.user_id) == ("Ada", "u-17")
lease = checked(lease_credential.sync_detailed(stored.id, client=client))
assert json.loads(base64.b64decode(lease.files[0].content))["account"] == "Ada"
try:
    checked(get_session.sync_detailed("ses_" + "0" * 26, client=client))
except ApiError as error:
    assert (error.status, error.code) == (404, "unknown_session") and error.remedy
else:
    raise AssertionError("an unknown session was found")
assert get_metrics.sync_detailed(client=client).status_code == 403
print("signed in as", stored.account)

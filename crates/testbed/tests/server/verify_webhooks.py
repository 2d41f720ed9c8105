"""Verifies webhook messages with the libraries of Standard Webhooks and Svix, and their bodies with the schema of the API.

Reads {"secret", "document", "messages": [{"headers", "body"}]} from standard input. Prints the number of messages of each type, as JSON.
"""

import json
import sys
from collections import Counter

import jsonschema
import standardwebhooks
import svix


def must_reject(verify, body, headers):
    """A changed body, and a signature of another message."""
    for changed_body, changed_headers in [
        (body + " ", headers),
        (body, headers | {"webhook-id": "msg_other"}),
        (body, headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}),
    ]:
        try:
            verify(changed_body, changed_headers)
        except Exception:  # Each library has its own.
            continue
        raise SystemExit("a changed message was accepted")


def main():
    given = json.load(sys.stdin)
    document = given["document"]
    schema = {"$ref": "#/components/schemas/WebhookNotification", "components": document["components"]}
    validator = jsonschema.Draft202012Validator(schema)
    libraries = [standardwebhooks.Webhook(given["secret"]).verify, svix.Webhook(given["secret"]).verify]
    types = Counter()
    for message in given["messages"]:
        body, headers = message["body"], message["headers"]
        for verify in libraries:
            verify(body, headers)
            must_reject(verify, body, headers)
        validator.validate(json.loads(body))
        types[json.loads(body)["type"]] += 1
    print(json.dumps(types))


main()

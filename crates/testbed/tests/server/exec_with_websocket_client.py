"""Runs a session's command with websocket-client, whose handshake has an Origin header. Its argument is the address; TOKEN is the token."""

import json
import os
import sys

import websocket

url, token = sys.argv[1], os.environ["TOKEN"]
headers = {"Authorization": f"Bearer {token}"}
channel = websocket.create_connection(url, header=headers, subprotocols=["v1.exec.anteroom"], timeout=120)
channel.send("{}")
channel.send_binary(bytes([255, 0]))
output = b""
while True:
    message = channel.recv()
    if message[0] == 1:
        output += message[1:]
    if message[0] == 3:
        break
print(output.decode(), json.loads(message[1:])["status"])

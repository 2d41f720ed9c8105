/* HTTP/2 (RFC 9113) without HPACK: a request is known by its method alone. `GET` is answered with the agent's information, `POST`
 * with the result of a claim; `CONNECT` echoes. As a client it sends no requests. */
#pragma once
#include <stdint.h>

void http2_start(int connection, int is_server);
void http2_received(int connection, const uint8_t *bytes, uint32_t count);

/* The agent's two channels, as far as tests of machines need them: the resync (crates/wire/src/channel.rs), then HTTP/2. */
#pragma once
#include <stdint.h>

/* Reads `anteroom.image=HASH` from the kernel's command line. */
void channel_start(const char *command_line);
void channel_opened(int connection, uint32_t port);
void channel_received(int connection, const uint8_t *bytes, uint32_t count);

/* The answer to `GET /hello`. */
const char *agent_info(void);
/* Keeps the session of a claim for later answers to `GET /hello`. Returns the answer to `POST /claim`. */
const char *claim(const char *body);

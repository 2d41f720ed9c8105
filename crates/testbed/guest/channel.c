#include "channel.h"
#include "http2.h"
#include "text.h"
#include "vsock.h"

#define HEX_LENGTH 32
#define MARKER_LENGTH (3 + HEX_LENGTH + 1) /* newline, letter, space, digits, newline */

static struct {
  uint32_t port;
  char marker[MARKER_LENGTH]; /* the bytes of a possible marker that have matched */
  uint32_t matched;
  int synced; /* a go line has arrived: HTTP/2 */
} channels[CONNECTIONS];

static char image_hash[129];
static char claimed_by[257] = "null";
static char info[2048]; /* empty: to be written */

void channel_start(const char *command_line) {
  const char *value = find_after(command_line, "anteroom.image=");
  for (uint32_t at = 0; value && at < sizeof image_hash - 1 && value[at] > ' '; at++) image_hash[at] = value[at];
}

static char *append(char *to, const char *text) {
  size_t length = text_length(text);
  memcpy(to, text, length + 1);
  return to + length;
}

const char *agent_info(void) {
  if (*info) return info;
  static const char *const stages[] = {"process", "channel", "hello", "display", "window_manager", "terminal", "browser"};
  char *end = append(info, "{\"protocol\":" PROTOCOL_VERSION ",\"agent_version\":\"test-guest\",\"capabilities\":[],\"clis\":{}");
  end = append(append(append(end, ",\"image_hash\":\""), image_hash), "\",\"stages\":[");
  for (uint32_t at = 0; at < sizeof stages / sizeof *stages; at++) {
    end = append(append(append(end, at ? "," : ""), "{\"stage\":\""), stages[at]);
    end = append(end, "\",\"state\":\"ready\",\"attempts\":1,\"changed_at_ms\":0}");
  }
  append(append(append(end, "],\"claimed_by\":"), claimed_by), "}");
  return info;
}

const char *claim(const char *body) {
  const char *value = find_after(body, "claimed_by\":");
  *info = 0;
  for (uint32_t at = 0; value && at < sizeof claimed_by - 1 && value[at]; at++) {
    claimed_by[at] = value[at];
    claimed_by[at + 1] = 0;
    if (value[at] == '}') break;
  }
  return "{\"cli_pid\":null}";
}

void channel_opened(int connection, uint32_t port) {
  channels[connection].port = port;
  channels[connection].matched = 0;
  channels[connection].synced = 0;
}

static int fits(uint32_t at, uint8_t byte) {
  if (at == 0 || at == MARKER_LENGTH - 1) return byte == '\n';
  if (at == 1) return byte == 'N' || byte == 'G';
  if (at == 2) return byte == ' ';
  return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f');
}

/* Whether a marker ends with this byte. */
static int ends_marker(int connection, uint8_t byte) {
  uint32_t *matched = &channels[connection].matched;
  if (!fits(*matched, byte)) *matched = 0;
  if (!fits(*matched, byte)) return 0;
  channels[connection].marker[(*matched)++] = byte;
  if (*matched < MARKER_LENGTH) return 0;
  *matched = 1; /* the end of one line may be the start of the next */
  return 1;
}

/* How many bytes change nothing: all before a newline, and more newlines after one. */
static uint32_t count_skipped(int connection, const uint8_t *bytes, uint32_t count) {
  switch (channels[connection].matched) {
    case 0: return count_until(bytes, count, '\n');
    case 1: return count_equal(bytes, count, '\n');
    default: return 0;
  }
}

static void handle_marker(int connection) {
  char *marker = channels[connection].marker;
  if (marker[1] == 'N') {
    marker[1] = 'E';
    channels[connection].synced = 0;
    vsock_send(connection, marker, MARKER_LENGTH);
  } else if (!channels[connection].synced) {
    channels[connection].synced = 1;
    http2_start(connection, channels[connection].port == AGENT_SERVER_PORT);
  }
}

void channel_received(int connection, const uint8_t *bytes, uint32_t count) {
  uint32_t begin = 0, at = 0; /* `begin`: the first byte that HTTP/2 has not received */
  while (at < count) {
    at += count_skipped(connection, bytes + at, count - at);
    if (at == count || !ends_marker(connection, bytes[at++])) continue;
    if (channels[connection].synced) http2_received(connection, bytes + begin, at - begin);
    begin = at;
    handle_marker(connection);
  }
  if (channels[connection].synced) http2_received(connection, bytes + begin, count - begin);
}

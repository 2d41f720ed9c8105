#include "http2.h"
#include "channel.h"
#include "text.h"
#include "vsock.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define PREFACE_BYTES 24
#define HEAD_BYTES 9
#define FRAME_BYTES_MAX 16384 /* the default of SETTINGS_MAX_FRAME_SIZE, which is not changed */
#define BODY_BYTES_MAX 65536

enum { DATA, HEADERS, RST_STREAM = 3, SETTINGS, PING = 6, WINDOW_UPDATE = 8 }; /* types of frames */
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8, PRIORITY = 32 };  /* flags */
enum { GET = 0x82, POST = 0x83, STATUS_200 = 0x88, SIZE_UPDATE = 0x20 };       /* first bytes of header fields in HPACK */

static struct {
  uint32_t preface_left; /* bytes */
  uint8_t frame[HEAD_BYTES + FRAME_BYTES_MAX];
  uint32_t have; /* bytes of the frame */
  uint32_t post_stream;
  char body[BODY_BYTES_MAX + 1];
  uint32_t body_bytes;
} states[CONNECTIONS];

static uint32_t payload_bytes(const uint8_t *frame) { return frame[0] << 16 | frame[1] << 8 | frame[2]; }
static uint32_t stream_of(const uint8_t *frame) { return frame[5] << 24 | frame[6] << 16 | frame[7] << 8 | frame[8]; }

static void send_frame(int connection, uint8_t type, uint8_t flags, uint32_t stream, const void *payload, uint32_t bytes) {
  uint8_t head[HEAD_BYTES] = {bytes >> 16, bytes >> 8, bytes, type, flags, stream >> 24, stream >> 16, stream >> 8, stream};
  vsock_send(connection, head, sizeof head);
  vsock_send(connection, payload, bytes);
}

static void send_window(int connection, uint32_t stream, uint32_t bytes) {
  uint8_t increment[4] = {bytes >> 24, bytes >> 16, bytes >> 8, bytes};
  if (bytes) send_frame(connection, WINDOW_UPDATE, 0, stream, increment, sizeof increment);
}

static void send_status(int connection, uint32_t stream) {
  uint8_t status = STATUS_200;
  send_frame(connection, HEADERS, END_HEADERS, stream, &status, 1);
}

static void answer(int connection, uint32_t stream, const char *body) {
  send_status(connection, stream);
  send_frame(connection, DATA, END_STREAM, stream, body, text_length(body));
}

static void handle_headers(int connection, const uint8_t *frame, uint32_t stream) {
  const uint8_t *field = frame + HEAD_BYTES;
  if (frame[4] & PADDED) field += 1;
  if (frame[4] & PRIORITY) field += 5;
  while ((*field & 0xe0) == SIZE_UPDATE) field++;
  switch (*field) {
    case GET: answer(connection, stream, agent_info()); break;
    case POST:
      states[connection].post_stream = stream;
      states[connection].body_bytes = 0;
      break;
    default: send_status(connection, stream); /* CONNECT */
  }
}

static void handle_data(int connection, const uint8_t *frame, uint32_t stream) {
  const uint8_t *payload = frame + HEAD_BYTES;
  uint32_t bytes = payload_bytes(frame);
  char *body = states[connection].body;
  send_window(connection, 0, bytes);
  if (stream != states[connection].post_stream) {
    send_window(connection, stream, bytes);
    send_frame(connection, DATA, frame[4] & END_STREAM, stream, payload, bytes);
    return;
  }
  uint32_t left = BODY_BYTES_MAX - states[connection].body_bytes;
  memcpy(body + states[connection].body_bytes, payload, bytes < left ? bytes : left);
  states[connection].body_bytes += bytes < left ? bytes : left;
  if (!(frame[4] & END_STREAM)) {
    send_window(connection, stream, bytes);
    return;
  }
  body[states[connection].body_bytes] = 0;
  answer(connection, stream, claim(body));
}

static void handle_frame(int connection, const uint8_t *frame) {
  uint32_t stream = stream_of(frame);
  switch (frame[3]) {
    case HEADERS: handle_headers(connection, frame, stream); break;
    case DATA: handle_data(connection, frame, stream); break;
    case SETTINGS:
      if (!(frame[4] & ACK)) send_frame(connection, SETTINGS, ACK, 0, 0, 0);
      break;
    case PING:
      if (!(frame[4] & ACK)) send_frame(connection, PING, ACK, 0, frame + HEAD_BYTES, 8);
      break;
  }
}

void http2_start(int connection, int is_server) {
  states[connection].preface_left = is_server ? PREFACE_BYTES : 0;
  states[connection].have = 0;
  states[connection].post_stream = 0;
  if (!is_server) vsock_send(connection, PREFACE, PREFACE_BYTES);
  send_frame(connection, SETTINGS, 0, 0, 0, 0);
}

void http2_received(int connection, const uint8_t *bytes, uint32_t count) {
  uint32_t *have = &states[connection].have, *preface_left = &states[connection].preface_left;
  uint8_t *frame = states[connection].frame;
  uint32_t skip = count < *preface_left ? count : *preface_left;
  *preface_left -= skip;
  for (bytes += skip, count -= skip; count;) {
    uint32_t whole = *have < HEAD_BYTES ? HEAD_BYTES : HEAD_BYTES + payload_bytes(frame);
    /* Too long, so not HTTP/2: the next nonce ends it. */
    if (whole > sizeof states[connection].frame) return;
    uint32_t taken = count < whole - *have ? count : whole - *have;
    memcpy(frame + *have, bytes, taken);
    *have += taken;
    bytes += taken;
    count -= taken;
    if (*have < HEAD_BYTES || *have < HEAD_BYTES + payload_bytes(frame)) continue;
    *have = 0;
    handle_frame(connection, frame);
  }
}

#include "vsock.h"
#include "port.h"
#include "text.h"

#define QUEUE_LENGTH 8
#define BUFFER_BYTES 4096
#define CREDIT_BYTES 65536

enum { RX, TX, EVENT, QUEUES };
enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };
enum { NEXT = 1, WRITE = 2 }; /* flags of a descriptor */

struct header {
  uint64_t source_cid, destination_cid;
  uint32_t source_port, destination_port, length;
  uint16_t type, operation;
  uint32_t flags, buffer_bytes, forwarded;
} __attribute__((packed));

struct packet { struct header header; uint8_t data[BUFFER_BYTES - sizeof(struct header)]; };

struct queue {
  struct { uint64_t address; uint32_t length; uint16_t flags, next; } descriptors[QUEUE_LENGTH];
  struct { uint16_t flags, index, ring[QUEUE_LENGTH], event; } available;
  struct { uint16_t flags, index; struct { uint32_t id, length; } ring[QUEUE_LENGTH]; uint16_t event; } used
      __attribute__((aligned(8)));
  uint16_t seen;
} __attribute__((aligned(16)));

static volatile struct queue queues[QUEUES];
static struct packet buffers[QUEUES][QUEUE_LENGTH] __attribute__((aligned(4096)));
/* `reply`: the header of the connection's packets. The port of the host is 0: the number is free. */
static struct { struct header reply; } connections[CONNECTIONS];
static volatile uint32_t *device; /* registers; null: there is no vsock device */

#define REGISTER(offset) device[(offset) / 4]
#define BARRIER() __asm__ volatile("mfence" ::: "memory")

/* Maps the 2 MiB around `address` in the fourth GiB: Firecracker maps the first only, with its PDPT at 0xa000. */
static void map_device(uint64_t address) {
  static volatile uint64_t directory[512] __attribute__((aligned(4096)));
  directory[address >> 21 & 511] = (address & ~0x1fffffull) | 0x83;
  ((volatile uint64_t *)0xa000)[address >> 30 & 511] = (uint64_t)directory | 3;
}

/* The address in `virtio_mmio.device=4K@0xADDRESS:IRQ`, or 0. */
static uint64_t device_address(const char *line) {
  uint64_t address = 0;
  if (!(line = find_after(line, "virtio_mmio.device="))) return 0;
  if (!(line = find_after(line, "@0x"))) return 0;
  for (; *line && *line != ':'; line++) address = address << 4 | (*line <= '9' ? *line - '0' : (*line | 32) - 'a' + 10);
  return address;
}

static void offer(int queue, uint16_t id) {
  volatile struct queue *q = &queues[queue];
  q->available.ring[q->available.index % QUEUE_LENGTH] = id;
  BARRIER();
  q->available.index++;
  BARRIER();
  REGISTER(0x50) = queue; /* QueueNotify */
}

static void start_queue(int queue) {
  volatile struct queue *q = &queues[queue];
  REGISTER(0x30) = queue; /* QueueSel */
  REGISTER(0x38) = QUEUE_LENGTH;
  REGISTER(0x80) = (uint64_t)q->descriptors;
  REGISTER(0x84) = 0;
  REGISTER(0x90) = (uint64_t)&q->available;
  REGISTER(0x94) = 0;
  REGISTER(0xa0) = (uint64_t)&q->used;
  REGISTER(0xa4) = 0;
  REGISTER(0x44) = 1; /* QueueReady */
}

/* The address of the vsock device among all virtio-mmio devices, mapped; or 0. */
static uint64_t find_device(const char *line) {
  while ((line = find_after(line, "virtio_mmio.device="))) {
    uint64_t address = device_address(line - text_length("virtio_mmio.device="));
    if (!address) continue;
    map_device(address);
    volatile uint32_t *registers = (volatile uint32_t *)address;
    if (registers[0] == 0x74726976 && registers[2] == 19) return address; /* MagicValue, DeviceID */
  }
  return 0;
}

void vsock_start(const char *command_line) {
  device = (volatile uint32_t *)find_device(command_line);
  if (!device) return;
  REGISTER(0x70) = 0;
  REGISTER(0x70) = 1; /* Status: ACKNOWLEDGE */
  REGISTER(0x70) = 3; /* DRIVER */
  REGISTER(0x24) = 1; /* DriverFeaturesSel */
  REGISTER(0x20) = 1; /* VIRTIO_F_VERSION_1 */
  REGISTER(0x70) = 11; /* FEATURES_OK */
  for (int queue = 0; queue < QUEUES; queue++) start_queue(queue);
  REGISTER(0x70) = 15; /* DRIVER_OK */
  for (int id = 0; id < QUEUE_LENGTH; id++)
    for (int queue = 0; queue < QUEUES; queue++) {
      queues[queue].descriptors[id].address = (uint64_t)&buffers[queue][id];
      queues[queue].descriptors[id].length = BUFFER_BYTES;
      queues[queue].descriptors[id].flags = WRITE;
      if (queue != TX) offer(queue, id);
    }
  print("vsock started\n");
}

/* Sends a packet and waits until the device has read it. */
static void send_packet(struct header header, uint16_t operation, const void *data, uint32_t length) {
  volatile struct queue *q = &queues[TX];
  struct packet *packet = &buffers[TX][0];
  packet->header = header;
  packet->header.operation = operation;
  packet->header.length = length;
  memcpy(packet->data, data, length);
  q->descriptors[0].address = (uint64_t)packet;
  q->descriptors[0].length = sizeof(struct header);
  q->descriptors[0].flags = length ? NEXT : 0;
  q->descriptors[0].next = 1;
  q->descriptors[1].address = (uint64_t)packet->data;
  q->descriptors[1].length = length;
  q->descriptors[1].flags = 0;
  offer(TX, 0);
  while (q->used.index == q->seen) __asm__ volatile("pause");
  q->seen = q->used.index;
}

void vsock_send(int connection, const void *bytes, uint32_t count) {
  while (count) {
    uint32_t length = count < sizeof buffers[TX][0].data ? count : sizeof buffers[TX][0].data;
    send_packet(connections[connection].reply, RW, bytes, length);
    bytes = (const uint8_t *)bytes + length;
    count -= length;
  }
}

static struct header reply_to(const struct header *header) {
  return (struct header){
      .source_cid = header->destination_cid, .destination_cid = header->source_cid,
      .source_port = header->destination_port, .destination_port = header->source_port,
      .type = 1, .buffer_bytes = CREDIT_BYTES};
}

/* The connection of a packet, a free number for a new one, or CONNECTIONS. */
static int find_connection(const struct header *header) {
  int number = 0;
  uint32_t host_port = header->operation == REQUEST ? 0 : header->source_port;
  while (number < CONNECTIONS && connections[number].reply.destination_port != host_port) number++;
  return number;
}

static void handle_packet(const struct packet *packet) {
  const struct header *header = &packet->header;
  int number = find_connection(header);
  if (number == CONNECTIONS || !vsock_listens(header->destination_port)) {
    if (header->operation != RST) send_packet(reply_to(header), RST, 0, 0);
    return;
  }
  struct header *reply = &connections[number].reply;
  switch (header->operation) {
    case REQUEST:
      *reply = reply_to(header);
      send_packet(*reply, RESPONSE, 0, 0);
      vsock_opened(number, header->destination_port);
      break;
    case RW:
      reply->forwarded += header->length;
      send_packet(*reply, CREDIT_UPDATE, 0, 0);
      vsock_received(number, header->destination_port, packet->data, header->length);
      break;
    case SHUTDOWN: send_packet(*reply, RST, 0, 0); /* fall through */
    case RST: reply->destination_port = 0; break;
    case CREDIT_REQUEST: send_packet(*reply, CREDIT_UPDATE, 0, 0); break;
  }
}

/* The device has closed all connections: the guest was restored from a snapshot. */
static void forget_connections(void) {
  for (int number = 0; number < CONNECTIONS; number++) connections[number].reply.destination_port = 0;
  print("vsock reset\n");
}

/* Events first: a connection that arrives together with a reset was made after it. */
void vsock_poll(void) {
  if (!device) return;
  for (int queue = EVENT; queue >= RX; queue -= EVENT) {
    volatile struct queue *q = &queues[queue];
    if (q->used.index == q->seen) continue;
    uint32_t id = q->used.ring[q->seen++ % QUEUE_LENGTH].id;
    if (queue == RX) handle_packet(&buffers[RX][id]);
    else forget_connections();
    offer(queue, id);
  }
}

/* A driver of virtio-vsock over virtio-mmio without interrupts (Virtual I/O Device Version 1.2, sections 4.2 and 5.10). It
 * accepts connections. The host must read what the guest sends: the guest does not wait for credit. */
#pragma once
#include <stdint.h>

#define AGENT_SERVER_PORT 1024
#define CONTROLLER_SERVER_PORT 1025
#define COMMAND_PORT 1026
#define ECHO_PORT 1027
#define CONNECTIONS 8

/* Starts the device that the kernel's command line describes, if there is one. */
void vsock_start(const char *command_line);
/* Handles what the device has received. */
void vsock_poll(void);
/* Sends bytes on a connection. */
void vsock_send(int connection, const void *bytes, uint32_t count);

/* Implemented by the user of the driver. A connection is a number below CONNECTIONS. */
int vsock_listens(uint32_t port);
void vsock_opened(int connection, uint32_t port);
void vsock_received(int connection, uint32_t port, const uint8_t *bytes, uint32_t count);

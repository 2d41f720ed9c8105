/* A guest for tests of VMMs: it prints a counter on the serial port and executes commands, each of them one byte.
 *
 *   h  halts with interrupts off; the guest never runs again    d  writes to each page of 32 MiB of memory
 *   t  triple fault                                             p  prints "pong"
 *   r  reset by the keyboard controller (port 0x64)             f  prints 4 KiB of dots
 *   i  executes an address without memory
 *
 * Commands arrive on the serial port and on vsock port 1026, which sends each executed one back. Port 1027 echoes all bytes; ports
 * 1024 and 1025 are the agent's channels (channel.c).
 *
 * Firecracker starts it by the 64-bit Linux boot protocol: long mode, the first GiB mapped, interrupts off, the boot
 * parameters in RSI. There is no interrupt table, so every exception is a triple fault.
 */
#include "channel.h"
#include "port.h"
#include "text.h"
#include "vsock.h"

#define CYCLES_PER_LINE 20000000
#define FLOOD_BYTES 4096

__asm__(".section .text.start\n.global _start\n_start:\n  lea stack_end(%rip), %rsp\n  mov %rsi, %rdi\n  call main\n");
static uint8_t stack[32768] __attribute__((aligned(16), used));
__asm__(".global stack_end\n.set stack_end, stack + 32768\n");

void *memcpy(void *to, const void *from, size_t bytes) {
  void *start = to;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
  return start;
}

void *memset(void *to, int value, size_t bytes) {
  void *start = to;
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(value) : "memory");
  return start;
}

static void write_memory(void) {
  for (volatile uint8_t *at = (uint8_t *)0x2000000; at < (uint8_t *)0x4000000; at += 4096) *at = 1;
  print("written\n");
}

static void flood(void) {
  for (int count = 0; count < FLOOD_BYTES; count++) out8(SERIAL, '.');
  print("\nflooded\n");
}

static void execute(uint8_t command) {
  switch (command) {
    case 'h': print("halt\n"); __asm__ volatile("cli; hlt"); break;
    case 't': print("triple fault\n"); __asm__ volatile("ud2"); break;
    case 'r': print("reset\n"); out8(0x64, 0xfe); break;
    case 'i': print("no memory\n"); ((void (*)(void))0x3fe00000)(); break;
    case 'p': print("pong\n"); break;
    case 'd': write_memory(); break;
    case 'f': flood(); break;
  }
}

int vsock_listens(uint32_t port) { return port >= AGENT_SERVER_PORT && port <= ECHO_PORT; }

void vsock_opened(int connection, uint32_t port) {
  if (port == AGENT_SERVER_PORT || port == CONTROLLER_SERVER_PORT) channel_opened(connection, port);
}

void vsock_received(int connection, uint32_t port, const uint8_t *bytes, uint32_t count) {
  switch (port) {
    case COMMAND_PORT:
      for (uint32_t at = 0; at < count; at++) {
        execute(bytes[at]);
        vsock_send(connection, bytes + at, 1);
      }
      break;
    case ECHO_PORT: vsock_send(connection, bytes, count); break;
    default: channel_received(connection, bytes, count);
  }
}

void main(const uint8_t *boot_params) {
  uint64_t counter = 0, next = cycles();
  /* `cmd_line_ptr` of the boot parameters (Linux, Documentation/arch/x86/boot.rst). */
  const char *command_line = (const char *)(uint64_t) * (const uint32_t *)(boot_params + 0x228);
  print("guest started\n");
  channel_start(command_line);
  vsock_start(command_line);
  for (;;) {
    execute(read_key());
    vsock_poll();
    if (cycles() >= next) {
      next = cycles() + CYCLES_PER_LINE;
      print("tick ");
      print_number(counter++);
      print("\n");
    }
    __asm__ volatile("pause");
  }
}

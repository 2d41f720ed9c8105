/* The serial port, and input and output ports. */
#pragma once
#include <stdint.h>

#define SERIAL 0x3f8

static inline void out8(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static inline uint8_t in8(uint16_t port) {
  uint8_t value;
  __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
static inline uint64_t cycles(void) {
  uint32_t low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return (uint64_t)high << 32 | low;
}

/* The emulated serial port is always ready to send. */
static inline void print(const char *text) {
  while (*text) out8(SERIAL, *text++);
}
static inline void print_number(uint64_t number) {
  char digits[21];
  int at = sizeof digits - 1;
  digits[at] = 0;
  do digits[--at] = '0' + number % 10; while (number /= 10);
  print(digits + at);
}
/* The key that has arrived on the serial port, or 0. */
static inline uint8_t read_key(void) { return in8(SERIAL + 5) & 1 ? in8(SERIAL) : 0; }

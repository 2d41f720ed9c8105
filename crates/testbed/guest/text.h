/* Text and memory, with the string instructions: where KVM emulates every instruction, each of them counts once. */
#pragma once
#include <stddef.h>

void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

/* How many of `count` bytes precede the first `byte`. */
static inline size_t count_until(const void *bytes, size_t count, char byte) {
  const char *at = bytes;
  size_t left = count;
  if (!count) return 0;
  __asm__ volatile("repne scasb" : "+D"(at), "+c"(left) : "a"(byte) : "memory", "cc");
  return at[-1] == byte ? count - left - 1 : count;
}
/* How many of `count` bytes are `byte` before the first other one. */
static inline size_t count_equal(const void *bytes, size_t count, char byte) {
  const char *at = bytes;
  size_t left = count;
  if (!count) return 0;
  __asm__ volatile("repe scasb" : "+D"(at), "+c"(left) : "a"(byte) : "memory", "cc");
  return at[-1] == byte ? count : count - left - 1;
}
static inline size_t text_length(const char *text) { return count_until(text, (size_t)-1, 0); }
static inline int begins_with(const char *text, const char *prefix) {
  while (*prefix) if (*text++ != *prefix++) return 0;
  return 1;
}
/* What follows the first `key` in `text`, or null. */
static inline const char *find_after(const char *text, const char *key) {
  size_t left = text_length(text);
  for (;;) {
    size_t skip = count_until(text, left, *key);
    if (skip == left) return 0;
    if (begins_with(text + skip, key)) return text + skip + text_length(key);
    text += skip + 1;
    left -= skip + 1;
  }
}

/* For all programs of this folder: what a program checks by itself, and noise to allocate. */
#ifndef ALLOCTAPE_TESTS_PROGRAM_H
#define ALLOCTAPE_TESTS_PROGRAM_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                           \
  do {                                                                             \
    if (!(condition)) {                                                            \
      fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
      _Exit(97);                                                                   \
    }                                                                              \
  } while (0)

/* Keeps the compiler from dropping an allocation that nobody looks at. */
static inline void *keep(void *p) {
  __asm__ volatile("" : "+r"(p)::"memory");
  return p;
}

/* `n` blocks of changing sizes, each freed before the end; the last 16 live side by side. */
static inline void churn(int n, unsigned seed) {
  void *held[16] = {NULL};
  for (int i = 0; i < n; ++i) {
    seed = seed * 1664525u + 1013904223u;
    free(held[i & 15]);
    held[i & 15] = keep(malloc(1 + (seed >> 20)));
    CHECK(held[i & 15]);
  }
  for (int i = 0; i < 16; ++i) free(held[i]);
}

#endif

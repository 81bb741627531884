// What the benchmark programs tell about themselves, on one line of name=value pairs.
#pragma once

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline double clock_ns(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

// The highest resident memory of this image so far, in KiB. Of the process's figures only this one
// starts afresh at exec. -1: the kernel does not say.
static inline long peak_rss_kib(void) {
  char line[256];
  long kib = -1;
  FILE* f = fopen("/proc/self/status", "r");
  if (!f) return -1;
  while (kib < 0 && fgets(line, sizeof line, f)) sscanf(line, "VmHWM: %ld", &kib);
  fclose(f);
  return kib;
}

static int compare_doubles(const void* a, const void* b) {
  const double x = *(const double*)a, y = *(const double*)b;
  return x < y ? -1 : x > y;
}
// Sorts v. The median of nothing is 0.
static inline double median(double* v, size_t n) {
  if (n == 0) return 0;
  qsort(v, n, sizeof *v, compare_doubles);
  return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

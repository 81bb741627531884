/* What a file of the counter holds: one page, one process image. Read by harness.py. */
#ifndef ALLOCTAPE_TESTS_COUNTER_COUNTER_H
#define ALLOCTAPE_TESTS_COUNTER_COUNTER_H

#include <stdint.h>

#include "calls.h"

#define COUNTER_MAGIC "ACOUNT1\n"

struct counter_entry {
  char name[40];
  uint64_t calls;
  uint64_t failed; /* acquires and resizes that returned nothing; of `operator new`: that threw */
  uint64_t bytes;  /* requested, of calls that succeeded */
};

struct counter_file {
  char magic[8];
  uint32_t pid, parent_pid;
  uint32_t sequence; /* of this image among those of its pid: exec */
  uint32_t entries;
  uint64_t start_ns; /* CLOCK_MONOTONIC */
  uint64_t null_calls; /* release and query of NULL; counted under their names as well */
  uint64_t bootstrap;  /* calls served while the functions beneath were still being looked up */
  char executable[464];
  struct counter_entry entry[CALL_LIMIT];
};

_Static_assert(sizeof(struct counter_file) <= 4096, "one page");

#endif

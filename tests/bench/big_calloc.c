// TIMES times calloc of BYTES, and its free; the memory is never looked at.
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char** argv) {
  const long times = argc > 1 ? atol(argv[1]) : 10000;
  const size_t bytes = argc > 2 ? strtoull(argv[2], NULL, 10) : 100000000;
  for (long i = 0; i < times; ++i) {
    void* volatile block = calloc(1, bytes);
    if (!block) {
      perror("calloc");
      return 1;
    }
    free(block);
  }
  return 0;
}

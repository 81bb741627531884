/* Holds MIB more MiB of memory every 20 ms, STEPS times; then a moment of rest.
 * usage: grows MIB STEPS */
#include <unistd.h>

#include "program.h"

int main(int argc, char** argv) {
  CHECK(argc == 3);
  const long mib = atol(argv[1]), steps = atol(argv[2]);
  for (long i = 0; i < steps * mib; ++i) {
    for (int k = 0; k < 1024; ++k) {
      char* p = keep(malloc(1000));
      CHECK(p);
      memset(p, 1, 1000);
    }
    if (i % mib == mib - 1) usleep(20000);
  }
  usleep(100000);
  return 0;
}

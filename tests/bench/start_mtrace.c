// Turns glibc's mtrace on in a program that does not call it: preloaded beside
// libc_malloc_debug.so.
#define _GNU_SOURCE
#include <dlfcn.h>

__attribute__((constructor)) static void start(void) {
  void (*mtrace)(void) = (void (*)(void))dlvsym(RTLD_DEFAULT, "mtrace", "GLIBC_2.2.5");
  if (mtrace) mtrace();
}

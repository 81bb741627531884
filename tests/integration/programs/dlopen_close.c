/* A C program that loads a C++ plugin (argument 1) into a scope of its own, again and again: operator
 * new is then not to be found in the global scope. */
#include <dlfcn.h>

#include "program.h"

int main(int argc, char **argv) {
  CHECK(argc == 2);
  for (int i = 0; i < 50; ++i) {
    void *handle = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!handle) fprintf(stderr, "%s\n", dlerror());
    CHECK(handle);
    int (*work)(int) = (int (*)(int))dlsym(handle, "plugin_work");
    CHECK(work && work(100) == 4950);
    CHECK(dlsym(handle, "no such symbol") == NULL && dlerror());
    CHECK(dlclose(handle) == 0);
  }
  CHECK(dlopen("/no/such/library.so", RTLD_NOW) == NULL && dlerror());
  puts("loaded and unloaded");
  return 0;
}

/* Loads and unloads plugins (the arguments) in turn, never twice at the same place: what is
 * remembered of one that has gone leads nowhere. usage: dlopen_churn PLUGIN... */
#include <dlfcn.h>
#include <sys/mman.h>

#include "program.h"

enum { kRounds = 40, kCalls = 100 };

static void fill_holes(void) {
  for (size_t bytes = 4 << 20; bytes >= 4096; bytes /= 2)
    CHECK(mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

int main(int argc, char** argv) {
  CHECK(argc > 1);
  for (int i = 0; i < kRounds; ++i) {
    void* handle = dlopen(argv[1 + i % (argc - 1)], RTLD_NOW | RTLD_LOCAL);
    if (!handle) fprintf(stderr, "%s\n", dlerror());
    CHECK(handle);
    int (*work)(int) = (int (*)(int))dlsym(handle, "plugin_work");
    CHECK(work && work(kCalls) == kCalls * (kCalls - 1) / 2);
    CHECK(dlclose(handle) == 0);
    fill_holes();
  }
  printf("%d calls of each\n", kRounds * kCalls);
  return 0;
}

// Prints the linker's name of every function that the tracer must export, one a line.
#include <cstdio>
#include <initializer_list>

#include "formats/wire/opcodes.h"

int main() {
  using namespace alloctape::wire;
  for (int i = 0; i < kApiOpLimit; ++i) {
    if (const char* symbol = traits(static_cast<Op>(i)).symbol) std::puts(symbol);
  }
  // What alloctape.h looks for.
  for (const char* name : {"init", "start", "stop", "pause", "unpause", "sync", "reset", "mark"}) {
    std::printf("alloctape_%s\n", name);
  }
}

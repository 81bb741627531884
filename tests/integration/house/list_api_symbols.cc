// Prints the linker's name of every function that the tracer must export, one a line.
#include <cstdio>

#include "formats/wire/opcodes.h"

int main() {
  using namespace alloctape::wire;
  for (int i = 0; i < kOpLimit; ++i) {
    if (const char* symbol = traits(static_cast<Op>(i)).symbol) std::puts(symbol);
  }
}

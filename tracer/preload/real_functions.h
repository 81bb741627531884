// The functions that were there before us: what RTLD_NEXT finds.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "formats/wire/opcodes.h"
#include "tracer/preload/law.h"

namespace alloctape::tracer {

struct RealFunctions {
  void* (*malloc_)(size_t);
  void* (*calloc_)(size_t, size_t);
  void* (*realloc_)(void*, size_t);
  void (*free_)(void*);
  size_t (*usable_size_)(void*);
  // The rest, by opcode; found at the first call of each. find() fills them.
  void* by_op[wire::kApiOpLimit];
  bool absent[wire::kApiOpLimit];  // looked for in vain
};
ALLOCTAPE_HIDDEN extern RealFunctions g_real;

// Whether g_real's named members may be called. False only while this thread is itself inside the
// dynamic linker's search for them: then the bootstrap arena serves.
bool real_functions_ready();

// The real function behind an opcode; nullptr where nobody provides it. Looked for in everything
// loaded behind this library, a C++ runtime outside the global scope included. Allocates nothing.
void* find_real(wire::Op op);
template <typename F>
ALLOCTAPE_INLINE F real(wire::Op op) {
  void* f = __atomic_load_n(&g_real.by_op[static_cast<int>(op)], __ATOMIC_RELAXED);
  if (ALLOCTAPE_UNLIKELY(!f)) f = find_real(op);
  return reinterpret_cast<F>(f);
}

// What interposing can learn of glibc's malloc: nullptr / false under any other allocator.
ALLOCTAPE_HIDDEN extern bool g_glibc_chunks;  // the word before a block is a glibc chunk header
ALLOCTAPE_HIDDEN extern void* const*
    g_program_break;  // libc's record of the program break, or a constant
ALLOCTAPE_INLINE const void* program_break() {
  return __atomic_load_n(g_program_break, __ATOMIC_RELAXED);
}

}  // namespace alloctape::tracer

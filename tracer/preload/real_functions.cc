#include "tracer/preload/real_functions.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "tracer/preload/elf_lookup.h"
#include "tracer/preload/syscalls.h"

#include "tracer/preload/forbidden.h"

namespace alloctape::tracer {

RealFunctions g_real;
bool g_glibc_chunks = false;
namespace {
void* g_no_break = nullptr;
}
void* const* g_program_break = &g_no_break;

namespace {

enum : int { kUnresolved = 0, kResolving = 1, kReady = 2 };
int g_state = kUnresolved;
int g_resolver_tid = 0;

void* next_symbol(const char* name) { return dlsym(RTLD_NEXT, name); }

// glibc's own malloc keeps its flags in the word before a block, and the program break in a
// variable.
void learn_about_glibc() {
  Dl_info info;
  if (!dladdr(reinterpret_cast<void*>(g_real.malloc_), &info) || !info.dli_fname) return;
  const char* slash = strrchr(info.dli_fname, '/');
  if (strcmp(slash ? slash + 1 : info.dli_fname, "libc.so.6") != 0) return;
  void* curbrk = next_symbol("__curbrk");
  if (curbrk) g_program_break = static_cast<void* const*>(curbrk);
  g_glibc_chunks = true;
}

void resolve() {
  const int saved_errno = errno;
  g_real.malloc_ = reinterpret_cast<decltype(g_real.malloc_)>(next_symbol("malloc"));
  g_real.calloc_ = reinterpret_cast<decltype(g_real.calloc_)>(next_symbol("calloc"));
  g_real.realloc_ = reinterpret_cast<decltype(g_real.realloc_)>(next_symbol("realloc"));
  g_real.free_ = reinterpret_cast<decltype(g_real.free_)>(next_symbol("free"));
  g_real.usable_size_ =
      reinterpret_cast<decltype(g_real.usable_size_)>(next_symbol("malloc_usable_size"));
  learn_about_glibc();
  errno = saved_errno;
}

}  // namespace

bool real_functions_ready() {
  int state = __atomic_load_n(&g_state, __ATOMIC_ACQUIRE);
  if (ALLOCTAPE_LIKELY(state == kReady)) return true;
  const int tid = sys::gettid();
  if (state == kUnresolved && __atomic_compare_exchange_n(&g_state, &state, kResolving, false,
                                                          __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    __atomic_store_n(&g_resolver_tid, tid, __ATOMIC_RELAXED);
    resolve();
    __atomic_store_n(&g_state, static_cast<int>(kReady), __ATOMIC_RELEASE);
    return true;
  }
  if (__atomic_load_n(&g_resolver_tid, __ATOMIC_RELAXED) == tid) return false;
  while (__atomic_load_n(&g_state, __ATOMIC_ACQUIRE) != kReady) sys::sched_yield();
  return true;
}

void* find_real(wire::Op op) {
  const int index = static_cast<int>(op);
  if (__atomic_load_n(&g_real.absent[index], __ATOMIC_RELAXED)) return nullptr;
  const char* name = wire::traits(op).symbol;
  bool stays;
  void* f = find_behind_us(name, &stays);
  if (f) {
    // A plugin's own operators go with it, and the next plugin's may lie elsewhere.
    if (stays) __atomic_store_n(&g_real.by_op[index], f, __ATOMIC_RELAXED);
  } else if (name[0] != '_') {
    // Final: the C functions come with libc or an allocator, at start. A C++ runtime may come
    // later.
    __atomic_store_n(&g_real.absent[index], true, __ATOMIC_RELAXED);
  }
  return f;
}

}  // namespace alloctape::tracer

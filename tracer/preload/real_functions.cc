#include "tracer/preload/real_functions.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "tracer/preload/stream.h"
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

// glibc's own malloc keeps its flags in the word before a block, and the program break in a variable.
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
  if (state == kUnresolved &&
      __atomic_compare_exchange_n(&g_state, &state, kResolving, false, __ATOMIC_ACQ_REL,
                                  __ATOMIC_ACQUIRE)) {
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
  const int saved_errno = errno;
  Quiet quiet;
  void* f = next_symbol(name);
  bool final = true;
  if (!f && name[0] == '_') {
    // A C++ runtime that came by dlopen(RTLD_LOCAL) is in no scope that RTLD_NEXT searches. One may
    // still be loaded later, so its absence is not final.
    static const char* const kRuntimes[] = {"libstdc++.so.6", "libc++.so.1", "libc++abi.so.1"};
    for (const char* runtime : kRuntimes) {
      void* handle = dlopen(runtime, RTLD_LAZY | RTLD_NOLOAD);
      if (!handle) continue;
      f = dlsym(handle, name);
      if (f) break;
    }
    final = false;
  }
  if (f) {
    __atomic_store_n(&g_real.by_op[index], f, __ATOMIC_RELAXED);
  } else {
    if (final) __atomic_store_n(&g_real.absent[index], true, __ATOMIC_RELAXED);
    // The message of the failed search is ours as well: the second call gives it back.
    dlerror();
    dlerror();
  }
  errno = saved_errno;
  return f;
}

}  // namespace alloctape::tracer

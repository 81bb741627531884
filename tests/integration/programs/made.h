// For programs whose ways no interposer follows, the counter of these tests neither: each call by a
// wrapper that counts it. Prints "FUNCTION COUNT" lines.
#pragma once

#include <cstddef>
#include <new>

#include "program.h"

namespace made {

enum Function {
  kMalloc,
  kFree,
  kNew,
  kNewArray,
  kNewArrayAligned,
  kNewNothrow,
  kNewArrayNothrow,
  kDelete,
  kDeleteArray,
  kFunctions
};
inline constexpr const char* kNames[kFunctions] = {"malloc",
                                                   "free",
                                                   "operator new",
                                                   "operator new[]",
                                                   "operator new[](align)",
                                                   "operator new(nothrow)",
                                                   "operator new[](nothrow)",
                                                   "operator delete",
                                                   "operator delete[]"};
inline unsigned long g_calls[kFunctions];

inline void* allocate(std::size_t n) {
  ++g_calls[kMalloc];
  return keep(malloc(n));
}
inline void release(void* p) {
  ++g_calls[kFree];
  free(p);
}
inline void* create(std::size_t n) {
  ++g_calls[kNew];
  return keep(operator new(n));
}
inline void* create_quietly(std::size_t n) {
  ++g_calls[kNewNothrow];
  return keep(operator new(n, std::nothrow));
}
inline void* create_array(std::size_t n) {
  ++g_calls[kNewArray];
  return keep(operator new[](n));
}
inline void* create_array_quietly(std::size_t n) {
  ++g_calls[kNewArrayNothrow];
  return keep(operator new[](n, std::nothrow));
}
inline void* create_array_aligned(std::size_t n, std::size_t alignment) {
  ++g_calls[kNewArrayAligned];
  return keep(operator new[](n, std::align_val_t{alignment}));
}
inline void destroy(void* p) {
  ++g_calls[kDelete];
  operator delete(p);
}
inline void destroy_array(void* p) {
  ++g_calls[kDeleteArray];
  operator delete[](p);
}
// What the C++ runtime does for an exception: a block of its own.
inline void exception_was_thrown() {
  ++g_calls[kMalloc];
  ++g_calls[kFree];
}
inline void print() {
  for (int i = 0; i < kFunctions; ++i) printf("%s %lu\n", kNames[i], g_calls[i]);
}

}  // namespace made

/* Every function that is counted: enum name, and the name that tools and JSON give it.
 *
 * Written down a second time on purpose. The counter is the tests' independent witness, so it shares
 * nothing with formats/wire/opcodes.h; where the two lists differ, the tests of exact counts fail. */
#ifndef ALLOCTAPE_TESTS_COUNTER_CALLS_H
#define ALLOCTAPE_TESTS_COUNTER_CALLS_H

#define COUNTER_CALLS(X)                                     \
  X(MALLOC, "malloc")                                        \
  X(CALLOC, "calloc")                                        \
  X(REALLOC, "realloc")                                      \
  X(REALLOCARRAY, "reallocarray")                            \
  X(FREE, "free")                                            \
  X(POSIX_MEMALIGN, "posix_memalign")                        \
  X(ALIGNED_ALLOC, "aligned_alloc")                          \
  X(MEMALIGN, "memalign")                                    \
  X(VALLOC, "valloc")                                        \
  X(PVALLOC, "pvalloc")                                      \
  X(USABLE, "malloc_usable_size")                            \
  X(FREE_SIZED, "free_sized")                                \
  X(FREE_ALIGNED_SIZED, "free_aligned_sized")                \
  X(NEW, "operator new")                                     \
  X(NEW_A, "operator new[]")                                 \
  X(NEW_NT, "operator new(nothrow)")                         \
  X(NEW_A_NT, "operator new[](nothrow)")                     \
  X(NEW_AL, "operator new(align)")                           \
  X(NEW_A_AL, "operator new[](align)")                       \
  X(NEW_AL_NT, "operator new(align,nothrow)")                \
  X(NEW_A_AL_NT, "operator new[](align,nothrow)")            \
  X(DELETE, "operator delete")                               \
  X(DELETE_A, "operator delete[]")                           \
  X(DELETE_NT, "operator delete(nothrow)")                   \
  X(DELETE_A_NT, "operator delete[](nothrow)")               \
  X(DELETE_SZ, "operator delete(size)")                      \
  X(DELETE_A_SZ, "operator delete[](size)")                  \
  X(DELETE_AL, "operator delete(align)")                     \
  X(DELETE_A_AL, "operator delete[](align)")                 \
  X(DELETE_AL_NT, "operator delete(align,nothrow)")          \
  X(DELETE_A_AL_NT, "operator delete[](align,nothrow)")      \
  X(DELETE_SZ_AL, "operator delete(size,align)")             \
  X(DELETE_A_SZ_AL, "operator delete[](size,align)")

enum counter_call {
#define COUNTER_ENUM(id, name) CALL_##id,
  COUNTER_CALLS(COUNTER_ENUM)
#undef COUNTER_ENUM
  CALL_LIMIT
};

#endif

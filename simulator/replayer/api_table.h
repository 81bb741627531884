// The functions under test: every API function of wire/opcodes.h, as the dynamic linker resolves it
// for this process, that is: the candidate's where it has one.
//
// Honest about gaps. What a program would get from libc or libstdc++ (operator new on top of
// malloc) is used as it is. Where that would mix two allocators or does not exist at all, the
// nearest function of the candidate's own takes its place and the opcode's bit is set in
// `fallbacks`:
//   free_sized, free_aligned_sized          -> free
//   aligned_alloc, memalign, valloc, ...    -> whichever aligned function the candidate does have
//   malloc_usable_size                      -> a function that answers 0
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

namespace alloctape::simulator {

struct ApiTable {
  void* (*malloc_)(std::size_t);
  void* (*calloc_)(std::size_t, std::size_t);
  void* (*realloc_)(void*, std::size_t);
  void* (*reallocarray_)(void*, std::size_t, std::size_t);
  void (*free_)(void*);
  int (*posix_memalign_)(void**, std::size_t, std::size_t);
  void* (*aligned_alloc_)(std::size_t, std::size_t);
  void* (*memalign_)(std::size_t, std::size_t);
  void* (*valloc_)(std::size_t);
  void* (*pvalloc_)(std::size_t);
  std::size_t (*malloc_usable_size_)(void*);
  void (*free_sized_)(void*, std::size_t);
  void (*free_aligned_sized_)(void*, std::size_t, std::size_t);

  using New = void* (*)(std::size_t);
  using NewNothrow = void* (*)(std::size_t, const std::nothrow_t&);
  using NewAligned = void* (*)(std::size_t, std::align_val_t);
  using NewAlignedNothrow = void* (*)(std::size_t, std::align_val_t, const std::nothrow_t&);
  New new_, new_array;
  NewNothrow new_nothrow, new_array_nothrow;
  NewAligned new_aligned, new_array_aligned;
  NewAlignedNothrow new_aligned_nothrow, new_array_aligned_nothrow;

  using Delete = void (*)(void*);
  using DeleteNothrow = void (*)(void*, const std::nothrow_t&);
  using DeleteSized = void (*)(void*, std::size_t);
  using DeleteAligned = void (*)(void*, std::align_val_t);
  using DeleteAlignedNothrow = void (*)(void*, std::align_val_t, const std::nothrow_t&);
  using DeleteSizedAligned = void (*)(void*, std::size_t, std::align_val_t);
  Delete delete_, delete_array;
  DeleteNothrow delete_nothrow, delete_array_nothrow;
  DeleteSized delete_sized, delete_array_sized;
  DeleteAligned delete_aligned, delete_array_aligned;
  DeleteAlignedNothrow delete_aligned_nothrow, delete_array_aligned_nothrow;
  DeleteSizedAligned delete_sized_aligned, delete_array_sized_aligned;

  std::uint64_t fallbacks;  // bit per opcode
};

// Resolves everything. Returns nullptr, or the name of a function that nobody provides. The table
// stays in use by the fallbacks: REQUIRES that it lives as long as the process.
const char* resolve_api(ApiTable& table);

// A table of functions that do nothing, for measuring the loop itself: every acquire returns
// `block`.
ApiTable null_api(void* block);

// The file that `function` comes from; "" when unknown.
const char* library_of(const void* function);

}  // namespace alloctape::simulator

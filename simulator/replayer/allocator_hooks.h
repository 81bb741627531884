// What an allocator offers beyond the malloc API: figures about itself, a way to make it give
// memory back, settings. All of it is looked up by name, and only where the library that serves
// malloc has it: libc's mallinfo2 tells nothing about jemalloc.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simulator/memory_points.h"
#include "simulator/replayer/api_table.h"

namespace alloctape::simulator {

class AllocatorHooks {
 public:
  // REQUIRES: the table is resolved.
  void resolve(const ApiTable& api);

  // Figures, or none.
  void look(AllocatorView& view) const;
  // Makes it return free memory to the kernel; false when there is no way to.
  bool purge() const;
  const char* purge_name() const;  // null: no way to
  // False when there is no mallopt of its own, or it refuses.
  bool set_option(int parameter, int value) const;

 private:
  // glibc's struct mallinfo2, by its ABI.
  struct Mallinfo2 {
    std::size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks,
        keepcost;
  };
  Mallinfo2 (*mallinfo2_)() = nullptr;
  int (*mallctl_)(const char*, void*, std::size_t*, void*, std::size_t) = nullptr;
  int (*numeric_property_)(const char*, std::size_t*) = nullptr;
  void (*mi_process_info_)(std::size_t*, std::size_t*, std::size_t*, std::size_t*, std::size_t*,
                           std::size_t*, std::size_t*, std::size_t*) = nullptr;
  void (*release_free_memory_)() = nullptr;
  void (*mi_collect_)(bool) = nullptr;
  int (*scalable_command_)(int, void*) = nullptr;
  int (*malloc_trim_)(std::size_t) = nullptr;
  int (*mallopt_)(int, int) = nullptr;
};

}  // namespace alloctape::simulator

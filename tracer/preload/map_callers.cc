#include "tracer/preload/map_callers.h"

#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tracer/preload/real_functions.h"

#include "tracer/preload/forbidden.h"

namespace alloctape::tracer {

namespace {

constexpr int kMaxRanges = 16;
struct Range {
  uintptr_t begin, end;
};
Range g_ranges[kMaxRanges];
// How many of them are valid; -1: nobody has looked yet. Threads that look at the same time find
// the same. Release pairs with the acquire in is_allocator_code.
int g_range_count = -1;

struct Needed {
  const char* names[kMaxRanges];  // in the provider's string table, which stays loaded
  int count;
  Range found[kMaxRanges];
  int found_count;
  uintptr_t provider;  // an address in it
};

Range range_of(const struct dl_phdr_info* info) {
  Range r = {~uintptr_t{0}, 0};
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& ph = info->dlpi_phdr[i];
    if (ph.p_type != PT_LOAD) continue;
    const uintptr_t begin = info->dlpi_addr + ph.p_vaddr;
    if (begin < r.begin) r.begin = begin;
    if (begin + ph.p_memsz > r.end) r.end = begin + ph.p_memsz;
  }
  return r;
}

void collect_needed(const struct dl_phdr_info* info, Needed& needed) {
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    if (info->dlpi_phdr[i].p_type != PT_DYNAMIC) continue;
    const auto* first =
        reinterpret_cast<const ElfW(Dyn)*>(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    const char* strings = nullptr;
    for (const auto* d = first; d->d_tag != DT_NULL; ++d) {
      if (d->d_tag != DT_STRTAB) continue;
      uintptr_t at = d->d_un.d_ptr;
      if (at < info->dlpi_addr) at += info->dlpi_addr;  // not relocated in place: see elf_lookup.cc
      strings = reinterpret_cast<const char*>(at);
    }
    for (const auto* d = first; strings && d->d_tag != DT_NULL; ++d)
      if (d->d_tag == DT_NEEDED && needed.count < kMaxRanges)
        needed.names[needed.count++] = strings + d->d_un.d_val;
  }
}

int find_provider(struct dl_phdr_info* info, size_t, void* data) {
  auto& needed = *static_cast<Needed*>(data);
  const Range r = range_of(info);
  if (needed.provider - r.begin >= r.end - r.begin) return 0;
  needed.found[needed.found_count++] = r;
  collect_needed(info, needed);
  return 1;
}

int find_needed(struct dl_phdr_info* info, size_t, void* data) {
  auto& needed = *static_cast<Needed*>(data);
  const char* path = info->dlpi_name ? info->dlpi_name : "";
  const char* slash = strrchr(path, '/');
  const char* name = slash ? slash + 1 : path;
  for (int i = 0; i < needed.count && needed.found_count < kMaxRanges; ++i)
    if (strcmp(name, needed.names[i]) == 0) needed.found[needed.found_count++] = range_of(info);
  return 0;
}

ALLOCTAPE_COLD int find_ranges() {
  Needed needed{};
  needed.provider = reinterpret_cast<uintptr_t>(g_real.malloc_);
  dl_iterate_phdr(find_provider, &needed);
  dl_iterate_phdr(find_needed, &needed);
  for (int i = 0; i < needed.found_count; ++i) g_ranges[i] = needed.found[i];
  __atomic_store_n(&g_range_count, needed.found_count, __ATOMIC_RELEASE);
  return needed.found_count;
}

}  // namespace

bool is_allocator_code(const void* caller) {
  int count = __atomic_load_n(&g_range_count, __ATOMIC_ACQUIRE);
  if (ALLOCTAPE_UNLIKELY(count < 0)) count = find_ranges();
  const auto at = reinterpret_cast<uintptr_t>(caller);
  for (int i = 0; i < count; ++i)
    if (at - g_ranges[i].begin < g_ranges[i].end - g_ranges[i].begin) return true;
  return false;
}

}  // namespace alloctape::tracer

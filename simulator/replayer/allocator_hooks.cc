#include "simulator/replayer/allocator_hooks.h"

#include <dlfcn.h>

#include <cstring>
#include <initializer_list>

namespace alloctape::simulator {
namespace {

constexpr char kPurgeAllArenas[] = "arena.4096.purge";  // MALLCTL_ARENAS_ALL
constexpr int kCleanAllBuffers = 0;                     // TBBMALLOC_CLEAN_ALL_BUFFERS

const void* library_base(const void* function) {
  Dl_info info;
  return function != nullptr && dladdr(function, &info) ? info.dli_fbase : nullptr;
}

// `anywhere`: of whichever library. oneTBB's commands live in another one than its proxy for
// malloc.
template <typename F>
void find(F& function, const char* name, const void* own, bool anywhere = false) {
  void* found = dlsym(RTLD_DEFAULT, name);
  if (found == nullptr) {
    dlerror();  // the message lies on the candidate's heap until it is fetched, and once more
    dlerror();
  }
  function = anywhere || library_base(found) == own ? reinterpret_cast<F>(found) : nullptr;
}

void add(AllocatorView& view, const char* name, std::uint64_t value) {
  if (view.count == kViewFigures) return;
  NamedFigure& f = view.figures[view.count++];
  std::strncpy(f.name, name, sizeof f.name - 1);
  f.value = value;
}

void begin(AllocatorView& view, const char* source) {
  view = {};
  std::strncpy(view.source, source, sizeof view.source - 1);
}

}  // namespace

void AllocatorHooks::resolve(const ApiTable& api) {
  const void* own = library_base(reinterpret_cast<const void*>(api.malloc_));
  find(mallctl_, "mallctl", own);
  find(numeric_property_, "MallocExtension_GetNumericProperty", own);
  find(release_free_memory_, "MallocExtension_ReleaseFreeMemory", own);
  find(mi_process_info_, "mi_process_info", own);
  find(mi_collect_, "mi_collect", own);
  find(scalable_command_, "scalable_allocation_command", own, true);
  find(mallinfo2_, "mallinfo2", own);
  find(malloc_trim_, "malloc_trim", own);
  find(mallopt_, "mallopt", own);
}

void AllocatorHooks::look(AllocatorView& view) const {
  if (mallctl_ != nullptr) {
    begin(view, "mallctl");
    std::uint64_t epoch = 1;
    std::size_t epoch_bytes = sizeof epoch;
    mallctl_("epoch", &epoch, &epoch_bytes, &epoch, sizeof epoch);
    for (const char* name :
         {"stats.allocated", "stats.active", "stats.metadata", "stats.metadata_thp",
          "stats.resident", "stats.mapped", "stats.retained"}) {
      std::size_t value = 0, bytes = sizeof value;
      if (mallctl_(name, &value, &bytes, nullptr, 0) == 0) add(view, name, value);
    }
    return;
  }
  if (numeric_property_ != nullptr) {
    begin(view, "MallocExtension");
    for (const char* name :
         {"generic.current_allocated_bytes", "generic.heap_size", "generic.total_physical_bytes",
          "tcmalloc.pageheap_free_bytes", "tcmalloc.pageheap_unmapped_bytes",
          "tcmalloc.central_cache_free_bytes", "tcmalloc.transfer_cache_free_bytes",
          "tcmalloc.thread_cache_free_bytes", "tcmalloc.current_total_thread_cache_bytes",
          "tcmalloc.max_total_thread_cache_bytes"}) {
      std::size_t value = 0;
      if (numeric_property_(name, &value) != 0) add(view, name, value);
    }
    return;
  }
  if (mi_process_info_ != nullptr) {
    begin(view, "mi_process_info");
    std::size_t elapsed = 0, user = 0, system = 0, rss = 0, peak_rss = 0, commit = 0,
                peak_commit = 0, faults = 0;
    mi_process_info_(&elapsed, &user, &system, &rss, &peak_rss, &commit, &peak_commit, &faults);
    add(view, "current_commit", commit);
    add(view, "peak_commit", peak_commit);
    return;
  }
  if (mallinfo2_ != nullptr) {
    begin(view, "mallinfo2");
    const Mallinfo2 m = mallinfo2_();
    add(view, "arena", m.arena);
    add(view, "hblkhd", m.hblkhd);
    add(view, "uordblks", m.uordblks);
    add(view, "fordblks", m.fordblks);
    add(view, "fsmblks", m.fsmblks);
    add(view, "keepcost", m.keepcost);
    add(view, "ordblks", m.ordblks);
    add(view, "hblks", m.hblks);
  }
}

const char* AllocatorHooks::purge_name() const {
  if (mallctl_ != nullptr) return "mallctl arena.purge";
  if (release_free_memory_ != nullptr) return "MallocExtension_ReleaseFreeMemory";
  if (mi_collect_ != nullptr) return "mi_collect";
  if (scalable_command_ != nullptr) return "scalable_allocation_command";
  if (malloc_trim_ != nullptr) return "malloc_trim";
  return nullptr;
}

bool AllocatorHooks::purge() const {
  if (mallctl_ != nullptr) {
    // What threads have in their caches is theirs: of others' we reach nothing, our own we give up.
    mallctl_("thread.tcache.flush", nullptr, nullptr, nullptr, 0);
    return mallctl_(kPurgeAllArenas, nullptr, nullptr, nullptr, 0) == 0;
  }
  if (release_free_memory_ != nullptr)
    release_free_memory_();
  else if (mi_collect_ != nullptr)
    mi_collect_(true);
  else if (scalable_command_ != nullptr)
    scalable_command_(kCleanAllBuffers, nullptr);
  else if (malloc_trim_ != nullptr)
    malloc_trim_(0);
  else
    return false;
  return true;
}

bool AllocatorHooks::set_option(int parameter, int value) const {
  return mallopt_ != nullptr && mallopt_(parameter, value) != 0;
}

}  // namespace alloctape::simulator

#include "simulator/replayer/api_table.h"

#include <dlfcn.h>
#include <unistd.h>

#include "formats/wire/opcodes.h"

namespace alloctape::simulator {
namespace {

using wire::Op;

// Where the fallbacks find the candidate's functions. Written once, before any of them can be
// called.
const ApiTable* g_table = nullptr;
void* g_block = nullptr;
std::size_t g_page_bytes = 4096;

const void* base_of(const void* function) {
  Dl_info info;
  return function != nullptr && dladdr(function, &info) ? info.dli_fbase : nullptr;
}

void* find(const char* symbol) {
  void* function = dlsym(RTLD_DEFAULT, symbol);
  // A failed look-up leaves a message behind, on the candidate's heap: fetching it twice frees it.
  if (function == nullptr) {
    dlerror();
    dlerror();
  }
  return function;
}

void free_sized_by_free(void* p, std::size_t) { g_table->free_(p); }
void free_aligned_sized_by_free(void* p, std::size_t, std::size_t) { g_table->free_(p); }
std::size_t usable_size_unknown(void*) { return 0; }
void* memalign_by_posix(std::size_t alignment, std::size_t size) {
  void* p = nullptr;
  if (alignment < sizeof(void*)) alignment = sizeof(void*);
  return g_table->posix_memalign_(&p, alignment, size) == 0 ? p : nullptr;
}
void* memalign_by_aligned_alloc(std::size_t alignment, std::size_t size) {
  return g_table->aligned_alloc_(alignment, size);
}
void* aligned_alloc_by_memalign(std::size_t alignment, std::size_t size) {
  return g_table->memalign_(alignment, size);
}
int posix_memalign_by_memalign(void** p, std::size_t alignment, std::size_t size) {
  *p = g_table->memalign_(alignment, size);
  return *p != nullptr ? 0 : 12;  // ENOMEM
}
void* valloc_by_memalign(std::size_t size) { return g_table->memalign_(g_page_bytes, size); }
void* pvalloc_by_memalign(std::size_t size) {
  return g_table->memalign_(g_page_bytes, (size + g_page_bytes - 1) & ~(g_page_bytes - 1));
}

class Resolver {
 public:
  explicit Resolver(ApiTable& table) : table_(table) {
    libc_base_ = base_of(reinterpret_cast<const void*>(&getpid));
  }
  // Takes what the dynamic linker gives.
  template <typename F>
  void take(Op op, F& slot) {
    slot = reinterpret_cast<F>(find(wire::traits(op).symbol));
    if (slot == nullptr && missing_ == nullptr) missing_ = wire::traits(op).name;
  }
  // Takes it only from the allocator that serves malloc: libc's own would mix two allocators.
  template <typename F>
  void take_own(Op op, F& slot) {
    void* function = find(wire::traits(op).symbol);
    if (function != nullptr && base_of(function) == libc_base_ &&
        base_of(reinterpret_cast<const void*>(table_.malloc_)) != libc_base_)
      function = nullptr;
    slot = reinterpret_cast<F>(function);
  }
  template <typename F>
  void fall_back(Op op, F& slot, F substitute) {
    if (slot != nullptr || substitute == nullptr) return;
    slot = substitute;
    table_.fallbacks |= std::uint64_t{1} << static_cast<int>(op);
  }
  void require(Op op, bool have) {
    if (!have && missing_ == nullptr) missing_ = wire::traits(op).name;
  }
  const char* missing() const { return missing_; }

 private:
  ApiTable& table_;
  const void* libc_base_;
  const char* missing_ = nullptr;
};

}  // namespace

const char* library_of(const void* function) {
  Dl_info info;
  return dladdr(function, &info) && info.dli_fname != nullptr ? info.dli_fname : "";
}

const char* resolve_api(ApiTable& t) {
  t = {};
  g_table = &t;
  g_page_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  Resolver r(t);
  r.take(Op::kMalloc, t.malloc_);
  r.take(Op::kCalloc, t.calloc_);
  r.take(Op::kRealloc, t.realloc_);
  r.take(Op::kReallocarray, t.reallocarray_);  // libc's calls whatever realloc is
  r.take(Op::kFree, t.free_);
  r.take_own(Op::kPosixMemalign, t.posix_memalign_);
  r.take_own(Op::kAlignedAlloc, t.aligned_alloc_);
  r.take_own(Op::kMemalign, t.memalign_);
  r.take_own(Op::kValloc, t.valloc_);
  r.take_own(Op::kPvalloc, t.pvalloc_);
  r.take_own(Op::kMallocUsableSize, t.malloc_usable_size_);
  r.take_own(Op::kFreeSized, t.free_sized_);
  r.take_own(Op::kFreeAlignedSized, t.free_aligned_sized_);

  if (t.posix_memalign_ != nullptr) r.fall_back(Op::kMemalign, t.memalign_, &memalign_by_posix);
  if (t.aligned_alloc_ != nullptr)
    r.fall_back(Op::kMemalign, t.memalign_, &memalign_by_aligned_alloc);
  if (t.memalign_ != nullptr) {
    r.fall_back(Op::kPosixMemalign, t.posix_memalign_, &posix_memalign_by_memalign);
    r.fall_back(Op::kAlignedAlloc, t.aligned_alloc_, &aligned_alloc_by_memalign);
    r.fall_back(Op::kValloc, t.valloc_, &valloc_by_memalign);
    r.fall_back(Op::kPvalloc, t.pvalloc_, &pvalloc_by_memalign);
  } else {
    // No aligned function of its own at all: what a program would get is libc's, and so do we.
    r.take(Op::kPosixMemalign, t.posix_memalign_);
    r.take(Op::kAlignedAlloc, t.aligned_alloc_);
    r.take(Op::kMemalign, t.memalign_);
    r.take(Op::kValloc, t.valloc_);
    r.take(Op::kPvalloc, t.pvalloc_);
  }
  r.fall_back(Op::kMallocUsableSize, t.malloc_usable_size_, &usable_size_unknown);
  r.fall_back(Op::kFreeSized, t.free_sized_, &free_sized_by_free);
  r.fall_back(Op::kFreeAlignedSized, t.free_aligned_sized_, &free_aligned_sized_by_free);

  r.take(Op::kNew, t.new_);
  r.take(Op::kNewArray, t.new_array);
  r.take(Op::kNewNothrow, t.new_nothrow);
  r.take(Op::kNewArrayNothrow, t.new_array_nothrow);
  r.take(Op::kNewAligned, t.new_aligned);
  r.take(Op::kNewArrayAligned, t.new_array_aligned);
  r.take(Op::kNewAlignedNothrow, t.new_aligned_nothrow);
  r.take(Op::kNewArrayAlignedNothrow, t.new_array_aligned_nothrow);
  r.take(Op::kDelete, t.delete_);
  r.take(Op::kDeleteArray, t.delete_array);
  r.take(Op::kDeleteNothrow, t.delete_nothrow);
  r.take(Op::kDeleteArrayNothrow, t.delete_array_nothrow);
  r.take(Op::kDeleteSized, t.delete_sized);
  r.take(Op::kDeleteArraySized, t.delete_array_sized);
  r.take(Op::kDeleteAligned, t.delete_aligned);
  r.take(Op::kDeleteArrayAligned, t.delete_array_aligned);
  r.take(Op::kDeleteAlignedNothrow, t.delete_aligned_nothrow);
  r.take(Op::kDeleteArrayAlignedNothrow, t.delete_array_aligned_nothrow);
  r.take(Op::kDeleteSizedAligned, t.delete_sized_aligned);
  r.take(Op::kDeleteArraySizedAligned, t.delete_array_sized_aligned);
  return r.missing();
}

ApiTable null_api(void* block) {
  g_block = block;
  ApiTable t = {};
  t.malloc_ = [](std::size_t) { return g_block; };
  t.free_ = [](void*) {};
  return t;
}

}  // namespace alloctape::simulator

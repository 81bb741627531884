// The one definition of what can happen: every opcode of traces and workloads, with its traits.
//
// Part of the tracee-safe ground floor: header-only, no library, no allocation, no exceptions.
// Thread safety: everything here is constant.
#pragma once

#include <cstdint>

namespace alloctape::wire {

// Values are on disk: never renumber, never reuse. 1-47 are functions of the malloc API, 48-63 the
// calls by which a program gets memory from the kernel itself (64-95 are kept), 96-111 are what
// else a trace can tell, 112-127 steer a replay and stand in workloads only.
enum class Op : std::uint8_t {
  kNone = 0,
  kMalloc = 1,
  kCalloc = 2,
  kRealloc = 3,
  kReallocarray = 4,
  kFree = 5,
  kPosixMemalign = 6,
  kAlignedAlloc = 7,
  kMemalign = 8,
  kValloc = 9,
  kPvalloc = 10,
  kMallocUsableSize = 11,
  kFreeSized = 12,
  kFreeAlignedSized = 13,
  kNew = 16,
  kNewArray = 17,
  kNewNothrow = 18,
  kNewArrayNothrow = 19,
  kNewAligned = 20,
  kNewArrayAligned = 21,
  kNewAlignedNothrow = 22,
  kNewArrayAlignedNothrow = 23,
  kDelete = 24,
  kDeleteArray = 25,
  kDeleteNothrow = 26,
  kDeleteArrayNothrow = 27,
  kDeleteSized = 28,
  kDeleteArraySized = 29,
  kDeleteAligned = 30,
  kDeleteArrayAligned = 31,
  kDeleteAlignedNothrow = 32,
  kDeleteArrayAlignedNothrow = 33,
  kDeleteSizedAligned = 34,
  kDeleteArraySizedAligned = 35,

  kMmap = 48,
  kMunmap = 49,
  kMremap = 50,
  kMadvise = 51,
  kBrk = 52,
  kSbrk = 53,

  kThreadStart = 96,  // the thread's first event; fields thread, tid
  kThreadEnd = 97,    // the thread's last event on this stream
  kFork = 98,         // this process is about to fork
  kMark = 99,         // a mark was set on this thread; its text is in a mark block
  kPause = 100,       // what this thread does from here on is not recorded, ...
  kResume = 101,      // ... until here

  kWait = 112,   // go on when another lane has passed a position
  kSpawn = 113,  // start the next thread of a lane
  kExit = 114,   // this thread ends; what follows in the lane belongs to its next thread
  kTime = 115,   // the recorded clock
};

inline constexpr int kApiOpLimit = 48;  // API opcodes are 1 .. kApiOpLimit-1
inline constexpr int kMapOpFirst = 48, kMapOpLimit = 64;
inline constexpr int kOpLimit = 128;  // all opcodes fit 7 bits

enum class OpClass : std::uint8_t {
  kInvalid,  // not an opcode of this version
  kAcquire,  // returns a new block
  kRelease,  // gives a block back
  kResize,   // both: realloc, reallocarray
  kQuery,    // looks at a block: malloc_usable_size
  kMap,      // memory from the kernel, past malloc: mmap and its family
  kMeta,     // not a call of the API
};

struct OpTraits {
  const char* name;    // as users and JSON see it: the API function's own name
  const char* symbol;  // the linker's name; nullptr for what is no function
  OpClass op_class;
  bool takes_size;       // a size argument is part of the call
  bool takes_alignment;  // an alignment argument is part of the call
  bool takes_count;      // (count, size) arguments: calloc, reallocarray
};

namespace detail {
struct OpTable {
  OpTraits of[kOpLimit] = {};
};
constexpr OpTable make_op_table() {
  OpTable t;
  for (auto& e : t.of) e = {nullptr, nullptr, OpClass::kInvalid, false, false, false};
  auto set = [&t](Op op, const char* name, const char* symbol, OpClass c, bool size = false,
                  bool alignment = false, bool count = false) {
    t.of[static_cast<int>(op)] = {name, symbol, c, size, alignment, count};
  };
  const auto A = OpClass::kAcquire, R = OpClass::kRelease, M = OpClass::kMeta;
  set(Op::kMalloc, "malloc", "malloc", A, true);
  set(Op::kCalloc, "calloc", "calloc", A, true, false, true);
  set(Op::kRealloc, "realloc", "realloc", OpClass::kResize, true);
  set(Op::kReallocarray, "reallocarray", "reallocarray", OpClass::kResize, true, false, true);
  set(Op::kFree, "free", "free", R);
  set(Op::kPosixMemalign, "posix_memalign", "posix_memalign", A, true, true);
  set(Op::kAlignedAlloc, "aligned_alloc", "aligned_alloc", A, true, true);
  set(Op::kMemalign, "memalign", "memalign", A, true, true);
  set(Op::kValloc, "valloc", "valloc", A, true);
  set(Op::kPvalloc, "pvalloc", "pvalloc", A, true);
  set(Op::kMallocUsableSize, "malloc_usable_size", "malloc_usable_size", OpClass::kQuery);
  set(Op::kFreeSized, "free_sized", "free_sized", R, true);
  set(Op::kFreeAlignedSized, "free_aligned_sized", "free_aligned_sized", R, true, true);
  set(Op::kNew, "operator new", "_Znwm", A, true);
  set(Op::kNewArray, "operator new[]", "_Znam", A, true);
  set(Op::kNewNothrow, "operator new(nothrow)", "_ZnwmRKSt9nothrow_t", A, true);
  set(Op::kNewArrayNothrow, "operator new[](nothrow)", "_ZnamRKSt9nothrow_t", A, true);
  set(Op::kNewAligned, "operator new(align)", "_ZnwmSt11align_val_t", A, true, true);
  set(Op::kNewArrayAligned, "operator new[](align)", "_ZnamSt11align_val_t", A, true, true);
  set(Op::kNewAlignedNothrow, "operator new(align,nothrow)", "_ZnwmSt11align_val_tRKSt9nothrow_t",
      A, true, true);
  set(Op::kNewArrayAlignedNothrow, "operator new[](align,nothrow)",
      "_ZnamSt11align_val_tRKSt9nothrow_t", A, true, true);
  set(Op::kDelete, "operator delete", "_ZdlPv", R);
  set(Op::kDeleteArray, "operator delete[]", "_ZdaPv", R);
  set(Op::kDeleteNothrow, "operator delete(nothrow)", "_ZdlPvRKSt9nothrow_t", R);
  set(Op::kDeleteArrayNothrow, "operator delete[](nothrow)", "_ZdaPvRKSt9nothrow_t", R);
  set(Op::kDeleteSized, "operator delete(size)", "_ZdlPvm", R, true);
  set(Op::kDeleteArraySized, "operator delete[](size)", "_ZdaPvm", R, true);
  set(Op::kDeleteAligned, "operator delete(align)", "_ZdlPvSt11align_val_t", R, false, true);
  set(Op::kDeleteArrayAligned, "operator delete[](align)", "_ZdaPvSt11align_val_t", R, false, true);
  set(Op::kDeleteAlignedNothrow, "operator delete(align,nothrow)",
      "_ZdlPvSt11align_val_tRKSt9nothrow_t", R, false, true);
  set(Op::kDeleteArrayAlignedNothrow, "operator delete[](align,nothrow)",
      "_ZdaPvSt11align_val_tRKSt9nothrow_t", R, false, true);
  set(Op::kDeleteSizedAligned, "operator delete(size,align)", "_ZdlPvmSt11align_val_t", R, true,
      true);
  set(Op::kDeleteArraySizedAligned, "operator delete[](size,align)", "_ZdaPvmSt11align_val_t", R,
      true, true);
  const auto K = OpClass::kMap;
  set(Op::kMmap, "mmap", "mmap", K, true);
  set(Op::kMunmap, "munmap", "munmap", K, true);
  set(Op::kMremap, "mremap", "mremap", K, true);
  set(Op::kMadvise, "madvise", "madvise", K, true);
  set(Op::kBrk, "brk", "brk", K);
  set(Op::kSbrk, "sbrk", "sbrk", K, true);
  set(Op::kThreadStart, "thread_start", nullptr, M);
  set(Op::kThreadEnd, "thread_end", nullptr, M);
  set(Op::kFork, "fork", nullptr, M);
  set(Op::kMark, "mark", nullptr, M);
  set(Op::kPause, "pause", nullptr, M);
  set(Op::kResume, "resume", nullptr, M);
  set(Op::kWait, "wait", nullptr, M);
  set(Op::kSpawn, "spawn", nullptr, M);
  set(Op::kExit, "exit", nullptr, M);
  set(Op::kTime, "time", nullptr, M);
  return t;
}
inline constexpr OpTable kOpTable = make_op_table();
}  // namespace detail

// Traits of any byte; class kInvalid (and null names) for a byte that is no opcode.
constexpr const OpTraits& traits(Op op) {
  return detail::kOpTable.of[static_cast<std::uint8_t>(op) < kOpLimit ? static_cast<int>(op) : 0];
}
constexpr OpClass op_class(Op op) { return traits(op).op_class; }
constexpr bool is_map_op(Op op) { return op_class(op) == OpClass::kMap; }
constexpr bool is_api_op(Op op) {
  return static_cast<int>(op) < kApiOpLimit && op_class(op) != OpClass::kInvalid;
}

}  // namespace alloctape::wire

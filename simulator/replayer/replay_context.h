// What all lanes of a replay share. All of it lives in shared mappings or on the main thread's
// stack: nothing here may count as the allocator's memory.
#pragma once

#include <pthread.h>

#include <cstddef>
#include <cstdint>

#include "formats/wire/workload_layout.h"
#include "simulator/memory_sampler.h"
#include "simulator/replay_shared.h"
#include "simulator/replayer/api_table.h"

namespace alloctape::simulator {

// A live block. `p` is null for an empty slot, or one of the marks below.
struct Slot {
  void* p;
  std::uint64_t size;  // requested bytes; 0 for prologue blocks of unknown size
};
// A slot that holds one of the program's own mappings has this in its size: see mappings.cc.
inline constexpr std::uint64_t kMappingBit = std::uint64_t{1} << 63;
inline bool is_mapping(const Slot& slot) { return (slot.size & kMappingBit) != 0; }
inline constexpr std::uintptr_t kFailedBlock = 1;  // the candidate returned NULL for it
inline constexpr std::uintptr_t kNullBlock = 2;    // NULL is its pointer: malloc(0), or the slot 0
inline constexpr std::uintptr_t kLastMark = 2;

// Where a lane stands between two of its threads. Handed from thread to thread: written by the one
// that ends, read by the next, which the pthread_join before its start orders.
struct Context;
struct alignas(64) LaneCursor {
  Context* context;
  std::uint32_t lane;
  std::uint64_t chunk;                           // within the lane
  std::uint64_t word;                            // within the chunk
  std::uint64_t next_sample;                     // position of the next look at memory
  std::uint64_t next_purge;                      // position at which to think of a purge
  std::uint64_t counted_ops;                     // part of ops_by_kind that ops_done has
  std::int64_t live_delta, live_high, live_low;  // see ReplayLoop::account
  std::uint32_t until_timed, random;             // see ReplayLoop::timed; 0: not begun
  pthread_t thread;
  bool started;
};

class AllocatorHooks;
class Verifier;

struct Context {
  SharedHeader* shared;
  const ApiTable* api;
  const std::byte* workload;
  const wire::WorkloadHeader* header;
  const wire::LaneEntry* lanes;
  const wire::ChunkEntry* chunks;
  Slot* slots;
  LaneCursor* cursors;
  char* stacks;             // stack_bytes for each lane, the prologue's included
  std::size_t stack_bytes;  // guard page, signal stack, stack
  std::size_t page_bytes;
  int spins;
  bool read_ahead;  // the workload is larger than what we wanted to populate
  const AllocatorHooks* hooks;
  Verifier* verifier;     // null unless asked for
  std::uint64_t* usable;  // usable bytes by slot; null unless asked for
  MemorySampler sampler{-1, 4096};
  void (*run_lane)(Context&, std::uint32_t lane);  // the loop, as chosen by timing
};
using RunLane = void (*)(Context&, std::uint32_t lane);
// `careful`: with the hooks of careful_hooks.h.
RunLane choose_loop(Timing timing, bool careful);

// Makes this thread the one that runs `lane`, for signals: deadly ones are noted before they kill.
void adopt_lane(Context& context, std::uint32_t lane);
void catch_deadly_signals(Context& context);
// Starts the next thread of a lane; its previous one is joined first. Ends the process on failure.
void spawn_lane(Context& context, std::uint32_t lane);
// Adds a memory sample; `live` is what the caller believes the live bytes to be.
void take_sample(Context& context, std::int64_t live);
// Takes a closer look at memory. `live` as above; nobody waits: of two lanes one takes it.
void take_point(Context& context, Moment moment, std::int64_t live);
// Makes the allocator give memory back, if it is time to, and keeps the books of it. Returns the
// words that the lane may go on for before it asks again.
std::uint64_t purge_if_due(Context& context);
// Ends the process with a message for the driver. Callable from any thread.
[[noreturn]] void replay_failed(Context& context, const char* what, const char* detail = "");

}  // namespace alloctape::simulator

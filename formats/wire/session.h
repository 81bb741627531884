// The registry by which `record` learns which process images exist. One small file per recording,
// mapped by `record` and, for a moment, by every image when it starts its trace.
//
// Part of the tracee-safe ground floor: header-only, no library, no allocation, no exceptions.
#pragma once

#include <cstdint>

namespace alloctape::wire {

inline constexpr char kSessionMagic[8] = {'\x89', 'A', 'S', 'E', 'S', 'S', '1', '\n'};
inline constexpr std::uint32_t kSessionSlots = 65536;

struct SessionSlot {
  std::uint32_t ready;  // store-release by the image when the rest is written
  std::uint32_t pid;
  char path[504];  // absolute path of the trace, zero-terminated
};
static_assert(sizeof(SessionSlot) == 512);

struct SessionHeader {
  char magic[8];
  std::uint32_t next_slot;  // atomic add by images; beyond kSessionSlots: not registered
  std::uint32_t reserved0;
  std::uint64_t ticks_per_second;  // measured by `record`; 0 = unknown
  std::uint32_t initial_state;     // ControlState that images start in; 0 = kRecord
  std::uint32_t reserved1;
  unsigned char reserved2[480];
};
static_assert(sizeof(SessionHeader) == 512);
// The file: one header, then kSessionSlots slots (sparse).

// Environment of a traced program.
inline constexpr char kEnvOutput[] =
    "ALLOCTAPE_OUTPUT";  // pattern: %p pid, %e executable, %% percent
inline constexpr char kEnvSession[] = "ALLOCTAPE_SESSION";  // path of the session file, or unset
inline constexpr char kEnvOptions[] = "ALLOCTAPE_OPTIONS";  // comma-separated: strict, dense
inline constexpr char kDefaultOutput[] = "alloctape.%e.%p.atrace";

}  // namespace alloctape::wire

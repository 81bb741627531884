// What the fields of mmap and its family hold in a wide record (and in a workload's op).
// Specification: docs/formats/trace.md, "Mappings"; docs/formats/workload.md, "Mappings".
//
// Part of the tracee-safe ground floor: header-only, no library, no allocation, no exceptions. The
// constants are the kernel's for x86-64, written out because a file may be read elsewhere.
#pragma once

#include <cstdint>

namespace alloctape::wire {

// Field `alignment` of mmap: what stands behind the mapping. Absent = anonymous.
enum class Backing : std::uint64_t { kAnonymous = 0, kFile = 1, kDevice = 2, kOther = 3 };

// Field `value` of mmap, and the third word of the op.
constexpr std::uint64_t pack_prot_flags(std::uint32_t prot, std::uint32_t flags) {
  return prot | static_cast<std::uint64_t>(flags) << 32;
}
constexpr std::uint32_t map_prot(std::uint64_t packed) {
  return static_cast<std::uint32_t>(packed);
}
constexpr std::uint32_t map_flags(std::uint64_t packed) {
  return static_cast<std::uint32_t>(packed >> 32);
}

inline constexpr std::uint32_t kProtRead = 1, kProtWrite = 2, kProtExec = 4;
inline constexpr std::uint32_t kMapShared = 0x1, kMapPrivate = 0x2, kMapTypeMask = 0xf,
                               kMapFixed = 0x10, kMapAnonymous = 0x20, kMapGrowsDown = 0x100,
                               kMapLocked = 0x2000, kMapNoReserve = 0x4000, kMapPopulate = 0x8000,
                               kMapNonBlock = 0x10000, kMapStack = 0x20000, kMapHugeTlb = 0x40000,
                               kMapFixedNoReplace = 0x100000;
// Flags of mmap that an op may have.
inline constexpr std::uint32_t kReplayedMapFlags =
    kMapTypeMask | kMapAnonymous | kMapNoReserve | kMapPopulate | kMapStack;
// Advice that an op may give: what changes the memory itself, and nothing beside it.
constexpr bool is_replayed_advice(std::uint64_t advice) {
  return advice <= 4 || advice == 8 || (advice >= 12 && advice <= 17) ||
         (advice >= 20 && advice <= 23) || advice == 25;
}

inline constexpr std::uint32_t kRemapMayMove = 1, kRemapFixed = 2, kRemapDontUnmap = 4;

}  // namespace alloctape::wire

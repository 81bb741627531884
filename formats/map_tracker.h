// The program's own mappings, from the events of mmap and its family: which mapping a call
// concerns, and which part of it. What `stat` counts and the converter replays.
//
// A mapping is an object that lives from the mmap that made it until its last byte is unmapped; its
// address may change (mremap). Calls name address ranges instead, which may cover parts of several
// mappings and of what this trace knows nothing about (the program's code, thread stacks, the
// allocator's memory): the tracker cuts each call into what it does to each mapping.
//
// Memory: proportional to the mappings and their parts. Thread safety: none.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "formats/event.h"
#include "formats/wire/map_event.h"

namespace alloctape::formats {

// What kind of memory a part of a mapping is.
enum class MapKind : std::uint8_t {
  kAnonymous,  // private, readable or writable: becomes the process's own resident memory
  kReserved,   // anonymous, no access: address space only
  kShared,     // anonymous and shared
  kFile,       // a file, a device
};
inline constexpr int kMapKinds = 4;

struct Mapping {
  std::uint64_t address = 0;
  std::uint64_t size = 0;    // in whole pages, holes included
  std::uint64_t mapped = 0;  // what is left of it
  std::uint32_t flags = 0;   // of the mmap that made it
  wire::Backing backing = wire::Backing::kAnonymous;
  // Belongs to the visitor.
  struct User {
    std::uint64_t a = 0, b = 0;
  } user;

  bool anonymous() const { return backing == wire::Backing::kAnonymous; }
  bool shared() const { return (flags & wire::kMapTypeMask) != wire::kMapPrivate; }
};

// What a call did to one mapping. Offsets are from the mapping's address.
class MapVisitor {
 public:
  virtual ~MapVisitor() = default;
  virtual void on_mapped(const Event&, Mapping&, std::uint32_t /*prot*/) {}
  // `length` bytes are gone; with the last of them (mapped == 0) the mapping goes after the call.
  virtual void on_unmapped(const Event&, Mapping&, std::uint64_t /*offset*/,
                           std::uint64_t /*length*/) {}
  // The whole mapping, which has no holes, has another size or address.
  virtual void on_remapped(const Event&, Mapping&, std::uint64_t /*old_size*/) {}
  // MAP_FIXED put fresh anonymous memory in the place of a part of an anonymous mapping.
  virtual void on_replaced(const Event&, Mapping&, std::uint64_t /*offset*/,
                           std::uint64_t /*length*/, std::uint32_t /*prot*/) {}
  virtual void on_advised(const Event&, Mapping&, std::uint64_t /*offset*/,
                          std::uint64_t /*length*/) {}
};

struct MapTotals {
  struct Bytes {
    std::uint64_t now = 0, peak = 0;
    std::uint64_t total = 0;  // all that was ever mapped
  };
  std::array<Bytes, kMapKinds> bytes;
  std::uint64_t mappings = 0, peak_mappings = 0;  // now, and at most
  std::uint64_t failed_calls = 0;
  std::uint64_t unseen_calls = 0;   // unmapped, moved or advised what this trace did not see mapped
  std::uint64_t missed_unmaps = 0;  // mappings that lay where the kernel put a new one
  std::uint64_t cut_remaps = 0;     // mremap of a part: unmapped it and mapped another
  std::int64_t break_now = 0, break_peak = 0;  // bytes above the break of the first brk or sbrk

  const Bytes& of(MapKind kind) const { return bytes[static_cast<std::size_t>(kind)]; }
};

class MapTracker {
 public:
  MapTracker(std::uint64_t page_bytes, MapVisitor& visitor)
      : page_(page_bytes != 0 ? page_bytes : 4096), visitor_(visitor) {}

  // The callbacks of a HeapVisitor.
  void on_map(const Event& event);
  void on_map_detach(const Event& event);

  const MapTotals& totals() const { return totals_; }

 private:
  struct Part {
    std::uint64_t end;
    Mapping* mapping;
    std::uint32_t prot;
  };
  using Parts = std::map<std::uint64_t, Part>;  // by first address
  // A mapping, or what is to become one, between the two halves of an mremap that moves.
  struct InFlight {
    Mapping* whole = nullptr;
    bool known = false;  // else nothing is known of what was moved
    Mapping like;        // else a new mapping of this kind
    std::vector<std::pair<std::uint64_t, Part>>
        parts;  // of `whole`: offset, and its length in `end`
    std::uint32_t prot = 0;
  };

  bool range(std::uint64_t address, std::uint64_t size, std::uint64_t& end) const;
  Parts::iterator first_in(std::uint64_t begin);
  void cut_at(std::uint64_t address);
  bool covers(const Mapping& mapping, std::uint64_t begin, std::uint64_t end) const;
  static MapKind kind_of(const Mapping& mapping, std::uint32_t prot);
  void count(const Mapping& mapping, std::uint32_t prot, std::int64_t bytes);
  void insert(Mapping& mapping, std::uint64_t begin, std::uint64_t end, std::uint32_t prot);
  Mapping& make(const Mapping& like, std::uint64_t address, std::uint64_t size, std::uint32_t prot);
  bool unmap(const Event& event, std::uint64_t begin, std::uint64_t end);
  bool replace(const Event& event, std::uint64_t begin, std::uint64_t end, std::uint32_t prot);
  void map(const Event& event);
  void remap_in_place(const Event& event);
  void remap_moved(const Event& event);
  void take_whole(Mapping& mapping, InFlight& in_flight);
  void put_whole(const Event& event, Mapping& mapping, InFlight& in_flight, std::uint64_t address,
                 std::uint64_t size);
  bool advise(const Event& event, std::uint64_t begin, std::uint64_t end);
  void move_break(const Event& event);

  const std::uint64_t page_;
  MapVisitor& visitor_;
  Parts parts_;
  std::unordered_map<const Mapping*, std::unique_ptr<Mapping>> mappings_;
  std::map<std::pair<std::uint32_t, std::uint64_t>, InFlight> in_flight_;  // by thread, old pointer
  MapTotals totals_;
};

// "MADV_DONTNEED"; nullptr for advice that is not known here.
const char* advice_name(std::uint64_t advice);
// "rw-", and "MAP_PRIVATE|MAP_ANONYMOUS"; what is not known is left in hexadecimal.
std::string prot_text(std::uint32_t prot);
std::string map_flags_text(std::uint32_t flags);

}  // namespace alloctape::formats

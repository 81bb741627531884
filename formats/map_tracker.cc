#include "formats/map_tracker.h"

#include <algorithm>

namespace alloctape::formats {

// ---- parts

// The whole pages of a range; false when it is empty or runs around the end of the address space.
bool MapTracker::range(std::uint64_t address, std::uint64_t size, std::uint64_t& end) const {
  const std::uint64_t rounded = (size + page_ - 1) / page_ * page_;
  end = address + rounded;
  return size != 0 && rounded >= size && end > address;
}

// The first part that reaches beyond `begin`.
MapTracker::Parts::iterator MapTracker::first_in(std::uint64_t begin) {
  auto it = parts_.upper_bound(begin);
  if (it != parts_.begin() && std::prev(it)->second.end > begin) --it;
  return it;
}

// No part lies across the address afterwards.
void MapTracker::cut_at(std::uint64_t address) {
  const auto it = first_in(address);
  if (it == parts_.end() || it->first >= address) return;
  Part tail = it->second;
  it->second.end = address;
  parts_.emplace_hint(std::next(it), address, tail);
}

// The mapping is whole, and just what lies between the addresses.
bool MapTracker::covers(const Mapping& m, std::uint64_t begin, std::uint64_t end) const {
  return m.address == begin && m.size == end - begin && m.mapped == m.size;
}

MapKind MapTracker::kind_of(const Mapping& m, std::uint32_t prot) {
  if (!m.anonymous()) return MapKind::kFile;
  if (m.shared()) return MapKind::kShared;
  return prot == 0 ? MapKind::kReserved : MapKind::kAnonymous;
}

void MapTracker::count(const Mapping& m, std::uint32_t prot, std::int64_t bytes) {
  MapTotals::Bytes& b = totals_.bytes[static_cast<std::size_t>(kind_of(m, prot))];
  b.now += static_cast<std::uint64_t>(bytes);
  if (bytes > 0) b.total += static_cast<std::uint64_t>(bytes);
  b.peak = std::max(b.peak, b.now);
}

// REQUIRES: nothing is mapped there.
void MapTracker::insert(Mapping& m, std::uint64_t begin, std::uint64_t end, std::uint32_t prot) {
  parts_.emplace(begin, Part{end, &m, prot});
  count(m, prot, static_cast<std::int64_t>(end - begin));
}

// REQUIRES: nothing is mapped there.
Mapping& MapTracker::make(const Mapping& like, std::uint64_t address, std::uint64_t size,
                          std::uint32_t prot) {
  auto owned = std::make_unique<Mapping>();
  Mapping& m = *owned;
  m.address = address;
  m.size = m.mapped = size;
  m.flags = like.flags;
  m.backing = like.backing;
  mappings_.emplace(&m, std::move(owned));
  totals_.peak_mappings = std::max(totals_.peak_mappings, ++totals_.mappings);
  insert(m, address, address + size, prot);
  return m;
}

// ---- what calls do

// Takes out all that lies between the addresses; false when there was nothing.
bool MapTracker::unmap(const Event& event, std::uint64_t begin, std::uint64_t end) {
  bool any = false;
  cut_at(begin);
  cut_at(end);
  for (auto it = parts_.lower_bound(begin); it != parts_.end() && it->first < end;) {
    Mapping& m = *it->second.mapping;
    const std::uint64_t offset = it->first - m.address;
    std::uint64_t length = 0;
    // Neighbouring parts of one mapping go in one piece.
    while (it != parts_.end() && it->first < end && it->second.mapping == &m &&
           it->first == m.address + offset + length) {
      const std::uint64_t bytes = it->second.end - it->first;
      count(m, it->second.prot, -static_cast<std::int64_t>(bytes));
      length += bytes;
      it = parts_.erase(it);
    }
    any = true;
    m.mapped -= length;
    visitor_.on_unmapped(event, m, offset, length);
    if (m.mapped == 0) {
      --totals_.mappings;
      mappings_.erase(&m);
    }
  }
  return any;
}

// Fresh anonymous memory within one anonymous mapping of the same kind; false when it is not so.
bool MapTracker::replace(const Event& event, std::uint64_t begin, std::uint64_t end,
                         std::uint32_t prot) {
  const auto first = first_in(begin);
  if (first == parts_.end() || first->first > begin) return false;
  Mapping& m = *first->second.mapping;
  const bool shared = (wire::map_flags(event.value) & wire::kMapTypeMask) != wire::kMapPrivate;
  if (!m.anonymous() || m.shared() != shared) return false;
  std::uint64_t at = begin;
  for (auto it = first; at < end; ++it) {
    if (it == parts_.end() || it->first > at || it->second.mapping != &m) return false;
    at = it->second.end;
  }
  cut_at(begin);
  cut_at(end);
  for (auto it = parts_.find(begin); it != parts_.end() && it->first < end;) {
    count(m, it->second.prot, -static_cast<std::int64_t>(it->second.end - it->first));
    it = parts_.erase(it);
  }
  insert(m, begin, end, prot);
  visitor_.on_replaced(event, m, begin - m.address, end - begin, prot);
  return true;
}

void MapTracker::map(const Event& event) {
  std::uint64_t end = 0;
  const std::uint64_t begin = event.pointer;
  if (!range(begin, event.size, end)) return;
  Mapping like;
  like.flags = wire::map_flags(event.value);
  like.backing = static_cast<wire::Backing>(event.alignment);
  const std::uint32_t prot = wire::map_prot(event.value);
  const bool fixed = (like.flags & wire::kMapFixed) != 0;
  if (fixed && like.anonymous() && replace(event, begin, end, prot)) return;
  if (unmap(event, begin, end) && !fixed) ++totals_.missed_unmaps;
  visitor_.on_mapped(event, make(like, begin, end - begin, prot), prot);
}

// ---- mremap

// All parts of a mapping without holes leave the table.
void MapTracker::take_whole(Mapping& m, InFlight& in_flight) {
  for (auto it = parts_.find(m.address); it != parts_.end() && it->second.mapping == &m;) {
    Part part = it->second;
    part.end -= it->first;
    count(m, part.prot, -static_cast<std::int64_t>(part.end));
    in_flight.parts.emplace_back(it->first - m.address, part);
    it = parts_.erase(it);
  }
}

// They come back at another address, or end elsewhere; what is new is like the last of them.
void MapTracker::put_whole(const Event& event, Mapping& m, InFlight& in_flight,
                           std::uint64_t address, std::uint64_t size) {
  const std::uint64_t old_size = m.size;
  m.address = address;
  m.size = m.mapped = size;
  for (std::size_t i = 0; i < in_flight.parts.size(); ++i) {
    const auto& [offset, part] = in_flight.parts[i];
    if (offset >= size) break;
    const bool last = i + 1 == in_flight.parts.size();
    insert(m, address + offset, address + (last ? size : std::min(size, offset + part.end)),
           part.prot);
  }
  visitor_.on_remapped(event, m, old_size);
}

void MapTracker::remap_in_place(const Event& event) {
  std::uint64_t old_end = 0, end = 0;
  const std::uint64_t begin = event.pointer;
  if (!range(begin, event.count, old_end) || !range(begin, event.size, end)) return;
  const auto found = first_in(begin);
  if (found == parts_.end() || found->first > begin) {
    ++totals_.unseen_calls;
    return;
  }
  Mapping& m = *found->second.mapping;
  if (covers(m, begin, old_end)) {
    if (end > old_end && unmap(event, old_end, end)) ++totals_.missed_unmaps;
    InFlight in_flight;
    take_whole(m, in_flight);
    put_whole(event, m, in_flight, begin, end - begin);
  } else if (end < old_end) {
    unmap(event, end, old_end);
  } else if (end > old_end) {
    Mapping like;
    like.flags = m.flags;
    like.backing = m.backing;
    const std::uint32_t prot = found->second.prot;
    ++totals_.cut_remaps;
    unmap(event, begin, end);
    visitor_.on_mapped(event, make(like, begin, end - begin, prot), prot);
  }
}

void MapTracker::on_map_detach(const Event& event) {
  InFlight in_flight;
  const std::uint64_t begin = event.old_pointer;
  const auto found = first_in(begin);
  std::uint64_t end = 0;
  // Of no length: a second view of a shared mapping, which stays.
  const bool stays = event.count == 0 || (event.value & wire::kRemapDontUnmap) != 0;
  if (found != parts_.end() && found->first <= begin && (stays || range(begin, event.count, end))) {
    Mapping& m = *found->second.mapping;
    in_flight.known = true;
    in_flight.like.flags = m.flags;
    in_flight.like.backing = m.backing;
    in_flight.prot = found->second.prot;
    if (!stays && covers(m, begin, end)) {
      in_flight.whole = &m;
      take_whole(m, in_flight);
    } else if (!stays) {
      ++totals_.cut_remaps;
      unmap(event, begin, end);
    }
  }
  // Two halves with nothing of this thread between them that moves the same address.
  in_flight_.insert_or_assign({static_cast<std::uint32_t>(event.thread), begin},
                              std::move(in_flight));
}

void MapTracker::remap_moved(const Event& event) {
  const auto node =
      in_flight_.extract({static_cast<std::uint32_t>(event.thread), event.old_pointer});
  if (node.empty() || !node.mapped().known) {
    ++totals_.unseen_calls;
    return;
  }
  InFlight in_flight = std::move(node.mapped());
  std::uint64_t end = 0;
  const std::uint64_t begin = event.pointer;
  if (!range(begin, event.size, end)) {
    if (in_flight.whole != nullptr) {  // a hostile trace: it comes back where it was
      put_whole(event, *in_flight.whole, in_flight, in_flight.whole->address,
                in_flight.whole->size);
    }
    return;
  }
  if (unmap(event, begin, end) && !(event.value & wire::kRemapFixed)) ++totals_.missed_unmaps;
  if (in_flight.whole != nullptr) {
    put_whole(event, *in_flight.whole, in_flight, begin, end - begin);
  } else {
    visitor_.on_mapped(event, make(in_flight.like, begin, end - begin, in_flight.prot),
                       in_flight.prot);
  }
}

// ---- the rest

bool MapTracker::advise(const Event& event, std::uint64_t begin, std::uint64_t end) {
  bool any = false;
  for (auto it = first_in(begin); it != parts_.end() && it->first < end;) {
    Mapping& m = *it->second.mapping;
    const std::uint64_t from = std::max(begin, it->first);
    std::uint64_t to = from;
    while (it != parts_.end() && it->first < end && it->second.mapping == &m &&
           it->first <= std::max(to, from)) {
      to = std::min(end, it->second.end);
      ++it;
    }
    any = true;
    visitor_.on_advised(event, m, from - m.address, to - from);
  }
  return any;
}

void MapTracker::move_break(const Event& event) {
  const std::uint64_t bytes =
      event.op == wire::Op::kSbrk ? event.size : event.pointer - event.old_pointer;
  totals_.break_now =
      static_cast<std::int64_t>(static_cast<std::uint64_t>(totals_.break_now) + bytes);
  totals_.break_peak = std::max(totals_.break_peak, totals_.break_now);
}

void MapTracker::on_map(const Event& event) {
  if (event.failed()) {
    ++totals_.failed_calls;
    return;
  }
  std::uint64_t end = 0;
  switch (event.op) {
    case wire::Op::kMmap:
      map(event);
      break;
    case wire::Op::kMunmap:
      if (range(event.pointer, event.size, end) && !unmap(event, event.pointer, end))
        ++totals_.unseen_calls;
      break;
    case wire::Op::kMadvise:
      if (range(event.pointer, event.size, end) && !advise(event, event.pointer, end))
        ++totals_.unseen_calls;
      break;
    case wire::Op::kMremap:
      if (event.pointer == event.old_pointer) {
        remap_in_place(event);
      } else {
        remap_moved(event);
      }
      break;
    default:
      move_break(event);
  }
}

// ---- names

namespace {

struct FlagName {
  std::uint32_t bit;
  const char* name;
};
constexpr FlagName kFlagNames[] = {
    {wire::kMapFixed, "MAP_FIXED"},         {wire::kMapAnonymous, "MAP_ANONYMOUS"},
    {wire::kMapGrowsDown, "MAP_GROWSDOWN"}, {wire::kMapLocked, "MAP_LOCKED"},
    {wire::kMapNoReserve, "MAP_NORESERVE"}, {wire::kMapPopulate, "MAP_POPULATE"},
    {wire::kMapNonBlock, "MAP_NONBLOCK"},   {wire::kMapStack, "MAP_STACK"},
    {wire::kMapHugeTlb, "MAP_HUGETLB"},     {wire::kMapFixedNoReplace, "MAP_FIXED_NOREPLACE"},
};

std::string hexadecimal(std::uint32_t value) {
  std::string digits;
  for (; value != 0; value >>= 4) digits.insert(digits.begin(), "0123456789abcdef"[value & 15]);
  return "0x" + (digits.empty() ? "0" : digits);
}

}  // namespace

const char* advice_name(std::uint64_t advice) {
  switch (advice) {
    case 0:
      return "MADV_NORMAL";
    case 1:
      return "MADV_RANDOM";
    case 2:
      return "MADV_SEQUENTIAL";
    case 3:
      return "MADV_WILLNEED";
    case 4:
      return "MADV_DONTNEED";
    case 8:
      return "MADV_FREE";
    case 9:
      return "MADV_REMOVE";
    case 10:
      return "MADV_DONTFORK";
    case 11:
      return "MADV_DOFORK";
    case 12:
      return "MADV_MERGEABLE";
    case 13:
      return "MADV_UNMERGEABLE";
    case 14:
      return "MADV_HUGEPAGE";
    case 15:
      return "MADV_NOHUGEPAGE";
    case 16:
      return "MADV_DONTDUMP";
    case 17:
      return "MADV_DODUMP";
    case 18:
      return "MADV_WIPEONFORK";
    case 19:
      return "MADV_KEEPONFORK";
    case 20:
      return "MADV_COLD";
    case 21:
      return "MADV_PAGEOUT";
    case 22:
      return "MADV_POPULATE_READ";
    case 23:
      return "MADV_POPULATE_WRITE";
    case 24:
      return "MADV_DONTNEED_LOCKED";
    case 25:
      return "MADV_COLLAPSE";
    default:
      return nullptr;
  }
}

std::string prot_text(std::uint32_t prot) {
  std::string text;
  text += prot & wire::kProtRead ? 'r' : '-';
  text += prot & wire::kProtWrite ? 'w' : '-';
  text += prot & wire::kProtExec ? 'x' : '-';
  const std::uint32_t rest = prot & ~(wire::kProtRead | wire::kProtWrite | wire::kProtExec);
  return rest != 0 ? text + "+" + hexadecimal(rest) : text;
}

std::string map_flags_text(std::uint32_t flags) {
  std::string text;
  const auto add = [&text](const std::string& name) {
    if (!text.empty()) text += '|';
    text += name;
  };
  std::uint32_t rest = flags & ~wire::kMapTypeMask;
  const std::uint32_t type = flags & wire::kMapTypeMask;
  if (type == wire::kMapShared) add("MAP_SHARED");
  if (type == wire::kMapPrivate) add("MAP_PRIVATE");
  if (type == (wire::kMapShared | wire::kMapPrivate)) add("MAP_SHARED_VALIDATE");
  if (type > (wire::kMapShared | wire::kMapPrivate)) rest |= type;
  for (const FlagName& flag : kFlagNames) {
    if (rest & flag.bit) add(flag.name);
    rest &= ~flag.bit;
  }
  if (rest != 0 || text.empty()) add(hexadecimal(rest));
  return text;
}

}  // namespace alloctape::formats

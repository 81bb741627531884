// The live blocks, by address.
//
// An index table of 8-byte entries, open addressing with linear probing, over a pool of blocks. An
// entry holds the upper 32 bits of the address's hash and the number of the block; its home
// position is the leading bits of that hash, so growing the table and closing the gap of an erased
// entry (backward shift: no tombstones) never look at a block. A pool that reuses the last freed
// block first keeps what is written on an acquire in the cache.
//
// Memory: 8 bytes a table entry at a load of 0.4 to 0.8, and a Block for each block that was live
// at once. Block numbers and references stay valid until the block is freed. Thread safety: none.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#include "formats/heap_walk.h"

namespace alloctape::formats {

class LiveTable {
 public:
  using Number = std::uint32_t;  // of a block in the pool
  static constexpr Number kNone = 0;

  LiveTable() { resize_table(10); }

  std::uint64_t size() const { return size_; }  // entries in the table: blocks at an address

  Number find(std::uint64_t address) const {
    const std::uint32_t hash = hash_of(address);
    for (std::uint64_t i = hash >> shift_;; i = (i + 1) & mask_) {
      const std::uint64_t entry = entries_[i];
      if (entry == 0) return kNone;
      if (entry >> 32 == hash && block(number_of(entry)).address == address)
        return number_of(entry);
    }
  }

  // The block at `address`, new (all members but the address at their defaults) if there was none.
  Number find_or_insert(std::uint64_t address, bool& inserted) {
    const std::uint32_t hash = hash_of(address);
    std::uint64_t i = hash >> shift_;
    for (;; i = (i + 1) & mask_) {
      const std::uint64_t entry = entries_[i];
      if (entry == 0) break;
      if (entry >> 32 == hash && block(number_of(entry)).address == address) {
        inserted = false;
        return number_of(entry);
      }
    }
    inserted = true;
    const Number number = new_block();
    block(number).address = address;
    place(i, hash, number);
    return number;
  }

  // Takes the block out of the table, and leaves it in the pool. kNone when there is none.
  Number detach(std::uint64_t address) {
    const std::uint32_t hash = hash_of(address);
    for (std::uint64_t i = hash >> shift_;; i = (i + 1) & mask_) {
      const std::uint64_t entry = entries_[i];
      if (entry == 0) return kNone;
      if (entry >> 32 == hash && block(number_of(entry)).address == address) {
        close_gap(i);
        --size_;
        return number_of(entry);
      }
    }
  }

  // Puts a detached block at an address. REQUIRES: find(address) == kNone.
  void attach(Number number, std::uint64_t address) {
    const std::uint32_t hash = hash_of(address);
    std::uint64_t i = hash >> shift_;
    while (entries_[i] != 0) i = (i + 1) & mask_;
    block(number).address = address;
    place(i, hash, number);
  }

  // REQUIRES: the block is not in the table.
  void free_block(Number number) {
    block(number).birth_event = free_;
    free_ = number;
  }

  Block& block(Number number) { return chunks_[number >> kChunkBits].get()[number & kChunkMask]; }
  const Block& block(Number number) const {
    return chunks_[number >> kChunkBits].get()[number & kChunkMask];
  }

  // Too big for the nearer caches: prefetching pays.
  bool large() const { return mask_ >= 0x7fff; }
  // For an address that will be looked up soon: first the entry; some events later, the block.
  // Forced inline: gcc takes a function that does nothing but prefetch for one without effects, and
  // drops the call.
  [[gnu::always_inline]] void prefetch_entry(std::uint64_t address) const {
    __builtin_prefetch(&entries_[hash_of(address) >> shift_]);
  }
  [[gnu::always_inline]] void prefetch_block(std::uint64_t address) const {
    const std::uint32_t hash = hash_of(address);
    for (std::uint64_t i = hash >> shift_;; i = (i + 1) & mask_) {
      const std::uint64_t entry = entries_[i];
      if (entry == 0) return;
      if (entry >> 32 == hash) return __builtin_prefetch(&block(number_of(entry)), 1);
    }
  }

  template <typename Fn>
  void for_each(Fn&& fn) const {
    for (std::uint64_t i = 0; i <= mask_; ++i) {
      if (entries_[i] != 0) fn(block(number_of(entries_[i])));
    }
  }

 private:
  static constexpr std::size_t kHugePage = std::size_t{2} << 20;
  // A chunk is a little less than a huge page.
  static constexpr unsigned kChunkBits = 15, kChunkMask = (1u << kChunkBits) - 1;
  static_assert(sizeof(Block) << kChunkBits <= kHugePage);
  static_assert(std::is_trivially_destructible_v<Block>);

  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  // A walk of a big heap goes everywhere in this memory, and spends more on the translation of
  // addresses than on the memory itself unless its pages are huge.
  static void* memory(std::size_t bytes, bool huge) {
    void* p = huge ? std::aligned_alloc(kHugePage, bytes) : std::malloc(bytes);
    if (p == nullptr) throw std::bad_alloc();
    if (huge) ::madvise(p, bytes, MADV_HUGEPAGE);
    return p;
  }

  // Multiplicative hashing by the golden ratio: addresses that run in steps spread evenly.
  static std::uint32_t hash_of(std::uint64_t address) {
    return static_cast<std::uint32_t>((address * 0x9e3779b97f4a7c15u) >> 32);
  }
  static Number number_of(std::uint64_t entry) { return static_cast<Number>(entry); }

  void place(std::uint64_t i, std::uint32_t hash, Number number) {
    entries_[i] = static_cast<std::uint64_t>(hash) << 32 | number;
    if (++size_ > limit_) resize_table(bits_ + 1);
  }

  void close_gap(std::uint64_t gap) {
    for (std::uint64_t i = (gap + 1) & mask_; entries_[i] != 0; i = (i + 1) & mask_) {
      const std::uint64_t home = entries_[i] >> 32 >> shift_;
      // An entry may fill the gap unless its home lies behind the gap.
      if (((i - home) & mask_) >= ((i - gap) & mask_)) {
        entries_[gap] = entries_[i];
        gap = i;
      }
    }
    entries_[gap] = 0;
  }

  void resize_table(unsigned bits) {
    const std::uint64_t old_capacity = entries_ ? mask_ + 1 : 0;
    const std::uint64_t capacity = std::uint64_t{1} << bits;
    const std::size_t bytes = capacity * sizeof(std::uint64_t);
    std::unique_ptr<std::uint64_t[], Free> old(
        static_cast<std::uint64_t*>(memory(bytes, bytes % kHugePage == 0)));
    std::memset(old.get(), 0, bytes);
    old.swap(entries_);
    bits_ = bits;
    shift_ = 32 - bits;
    mask_ = capacity - 1;
    limit_ = capacity / 5 * 4;
    for (std::uint64_t from = 0; from < old_capacity; ++from) {
      const std::uint64_t entry = old[from];
      if (entry == 0) continue;
      std::uint64_t i = entry >> 32 >> shift_;
      while (entries_[i] != 0) i = (i + 1) & mask_;
      entries_[i] = entry;
    }
  }

  Number new_block() {
    Number number = free_;
    if (number != kNone) {
      free_ = static_cast<Number>(block(number).birth_event);
    } else {
      number = ++used_;
      if (number >> kChunkBits >= chunks_.size()) {
        // Small heaps use few pages of the first chunk, and leave the rest untouched.
        chunks_.emplace_back(static_cast<Block*>(memory(kHugePage, !chunks_.empty())));
      }
    }
    ::new (&block(number)) Block;
    return number;
  }

  std::unique_ptr<std::uint64_t[], Free> entries_;
  std::uint64_t mask_ = 0, size_ = 0, limit_ = 0;
  unsigned bits_ = 0, shift_ = 0;
  std::vector<std::unique_ptr<Block[], Free>> chunks_;
  Number free_ = kNone;  // a list through Block::birth_event
  Number used_ = 0;      // number 0 is never a block
};

}  // namespace alloctape::formats

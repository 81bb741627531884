// Blocks from before the recording that are known by address only: a query or a failed resize named
// them, and they live on. (A release needs no memory, a resize makes the walk's own block.)
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>

#include "converter/sequencer.h"

namespace alloctape::converter {

struct UnseenBlock {
  std::uint64_t slot = 0;
  std::uint64_t size = 0;  // what the allocator said it can hold; 0 = not known
  Place touched;
};

class UnseenBlocks {
 public:
  UnseenBlock* find(std::uint64_t address) {
    if (blocks_.empty()) return nullptr;
    const auto it = blocks_.find(address);
    return it == blocks_.end() ? nullptr : &it->second;
  }
  UnseenBlock& add(std::uint64_t address, UnseenBlock block) {
    return blocks_.insert_or_assign(address, block).first->second;
  }
  std::optional<UnseenBlock> take(std::uint64_t address) {
    const auto it = blocks_.find(address);
    if (it == blocks_.end()) return std::nullopt;
    const UnseenBlock block = it->second;
    blocks_.erase(it);
    return block;
  }
  template <typename Fn>
  void for_each(Fn&& fn) const {
    for (const auto& [address, block] : blocks_) fn(block);
  }

 private:
  std::unordered_map<std::uint64_t, UnseenBlock> blocks_;
};

}  // namespace alloctape::converter

// Live packing of one trace: finds the event blocks that its program has finished, puts packed ones
// in their place, and gives the space of the old ones back to the file system.
//
// At every moment the file is a valid trace, whoever dies: a packed block is written before the raw
// ones that it stands for are removed, and where both are there, readers take the packed one.
// Thread safety: one thread. The program writes to the file all the while; the two meet in the
// atomics of the header page alone, and each claimed range of the file has one owner.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "formats/block_packer.h"
#include "formats/wire/trace_layout.h"

namespace alloctape::tracer {

class BlockHarvest {
 public:
  // nullptr: not a trace, not to be opened for writing, or one that is never packed while it is
  // written (a ring).
  static std::unique_ptr<BlockHarvest> open(const std::string& path);
  ~BlockHarvest();
  BlockHarvest(const BlockHarvest&) = delete;
  BlockHarvest& operator=(const BlockHarvest&) = delete;

  // Looks what the program has written since the last call.
  void look();
  // Packs one group of blocks, if one is complete. False: there was nothing to do.
  bool pack_one(formats::BlockPacker& packer);
  // Gives back the space of blocks that were packed long enough ago for nobody to be reading them.
  void release_old();
  // The file system cannot give space back, or has none: packing must wait for the program's end.
  bool gave_up() const { return gave_up_; }
  std::uint64_t image_id() const { return header_->image_id; }

 private:
  struct Raw {
    std::uint64_t offset = 0, bytes = 0;  // header and payload
    std::uint64_t first_stamp = 0;
    std::uint32_t thread = 0, words = 0;
  };
  struct Stream {
    std::map<std::uint64_t, Raw> blocks;  // by sequence: found, not packed yet
    std::vector<std::uint64_t> staging;   // offsets of its extents
    std::uint64_t complete = 0;           // blocks below this sequence have been written
  };
  struct Packed {
    std::uint64_t offset, bytes, since_ns;
  };

  BlockHarvest(int fd, wire::TraceHeader* header) : fd_(fd), header_(header) {}
  bool step_over_hole(std::uint64_t end);
  void take(const wire::BlockHeader& block);
  void look_at_staging();
  std::vector<std::uint64_t> next_run(const Stream& stream, std::uint64_t most_words) const;
  bool replace(std::uint32_t number, Stream& stream, const std::vector<std::uint64_t>& run,
               formats::BlockPacker& packer);
  bool append(wire::BlockHeader header, const void* payload);

  int fd_;
  wire::TraceHeader* header_;
  std::uint64_t at_ = wire::kTraceHeaderBytes;  // everything in front has been looked at
  std::uint64_t hole_since_ns_ = 0;             // at at_; 0 = there is none
  std::map<std::uint32_t, Stream> streams_;
  std::deque<Packed> packed_;  // not given back yet
  std::vector<std::uint64_t> words_;
  bool gave_up_ = false;
};

}  // namespace alloctape::tracer

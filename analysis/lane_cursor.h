// The ops of one lane of a workload, chunk after chunk.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "formats/result.h"
#include "formats/workload_cursor.h"
#include "formats/workload_file.h"

namespace alloctape::analysis {

struct LaneOp {
  formats::OpView view;
  std::uint64_t first_word = 0;  // where the op starts in its lane
  std::uint64_t position = 0;    // index of the word after it: what a wait for it names
  std::uint64_t offset = 0;      // in the file
};

// Thread safety: one thread for each cursor.
class LaneCursor {
 public:
  // REQUIRES: lane < file.lanes().size().
  LaneCursor(const formats::WorkloadFile& file, std::uint32_t lane);
  // False at the end of the lane, or at a word that cannot be: see error().
  bool next(LaneOp& op);
  const std::optional<formats::Error>& error() const { return error_; }

 private:
  const formats::WorkloadFile& file_;
  std::uint64_t chunk_ = 0, chunk_end_ = 0;
  std::span<const std::uint64_t> words_;
  std::uint64_t at_ = 0;           // in words_
  std::uint64_t lane_word_ = 0;    // of words_[0], in the lane
  std::uint64_t file_offset_ = 0;  // of words_[0], in the file
  std::optional<formats::Error> error_;
};

}  // namespace alloctape::analysis

#include "analysis/lane_cursor.h"

#include <algorithm>

namespace alloctape::analysis {

using formats::Error;
using formats::ErrorCode;

LaneCursor::LaneCursor(const formats::WorkloadFile& file, std::uint32_t lane) : file_(file) {
  const wire::LaneEntry& entry = file.lanes()[lane];
  const std::uint64_t chunks = file.chunks().size();
  chunk_ = std::min(entry.first_chunk, chunks);
  chunk_end_ = chunk_ + std::min(entry.chunks, chunks - chunk_);
}

bool LaneCursor::next(LaneOp& op) {
  if (error_) return false;
  while (at_ >= words_.size()) {
    if (chunk_ >= chunk_end_) return false;
    const wire::ChunkEntry& chunk = file_.chunks()[chunk_++];
    words_ = file_.words(chunk);
    at_ = 0;
    lane_word_ = chunk.first_word;
    file_offset_ = chunk.offset;
  }
  op.view = formats::decode(words_.data() + at_, words_.data() + words_.size());
  op.offset = file_offset_ + at_ * sizeof(std::uint64_t);
  if (!op.view) {
    error_ =
        Error{ErrorCode::kCorrupt, "an op runs beyond its chunk", file_.path(), op.offset, "words"};
    return false;
  }
  if (wire::op_class(op.view.op) == wire::OpClass::kInvalid) {
    error_ = Error{ErrorCode::kCorrupt, "unknown opcode", file_.path(), op.offset, "opcode"};
    return false;
  }
  op.first_word = lane_word_ + at_;
  at_ += op.view.words;
  op.position = lane_word_ + at_;
  return true;
}

}  // namespace alloctape::analysis

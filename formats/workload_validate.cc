// WorkloadFile::validate: the workload run symbolically.
//
// One lane runs until it must wait, then another that can go on. Since a wait holds for ever once
// it is met, the order in which lanes are picked decides nothing: if one schedule gets stuck, all
// do. A lane's progress is what it has *published*, as in the replayer: a wait for a position that
// nobody publishes is a deadlock here too.
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "formats/wire/map_event.h"
#include "formats/workload_cursor.h"
#include "formats/workload_file.h"

namespace alloctape::formats {
namespace {

using wire::Op;
using wire::OpClass;

enum class SlotState : std::uint8_t {
  kEmpty,
  kLive,
  kPrologue,  // of unknown size, live since before the recording: it does not count
  kMapping,   // what mmap made, not malloc
};

constexpr std::uint64_t kNobody = ~std::uint64_t{0};
constexpr std::uint64_t kLargestMapping = std::uint64_t{1} << 56;  // address spaces have 57 bits
constexpr const char* kNoBlock = "the op's slot holds a mapping, not a block";

struct LaneRun {
  std::uint64_t chunk = 0, chunk_end = 0;  // indices into the chunk table
  std::uint32_t word = 0;                  // within the chunk
  bool running = false;                    // a thread is alive
  std::uint64_t published = 0;
  std::uint64_t thread = kNobody;        // index of the thread that runs, or will be spawned next
  std::uint64_t wait_position = 0;       // while blocked
  std::uint64_t first_waiter = kNobody;  // lanes blocked on this one
  std::uint64_t next_waiter = kNobody;   // in the list this lane is blocked in
};

class Validator {
 public:
  explicit Validator(const WorkloadFile& file) : file_(file), header_(file.header()) {}
  Status run();

 private:
  // Where an error was found: set before every op.
  struct Place {
    std::uint64_t lane = 0, position = 0, offset = 0;
  };

  Error error(std::string message, const char* field) const {
    return Error{ErrorCode::kCorrupt,
                 message + " (lane " + std::to_string(place_.lane) + ", position " +
                     std::to_string(place_.position) + ")",
                 file_.path(), place_.offset, field};
  }
  Error wrong_header(std::string what, std::uint64_t found, std::uint64_t stated,
                     std::uint64_t offset, const char* field) const {
    return Error{ErrorCode::kCorrupt,
                 "the header states " + std::to_string(stated) + " " + what + ", the lanes hold " +
                     std::to_string(found),
                 file_.path(), offset, field};
  }

  Status index_threads();
  Status run_prologue();
  Status run_lane(std::uint64_t index, bool& blocked);
  Status step(std::uint64_t index, LaneRun& lane, const OpView& view, std::uint64_t end_position,
              bool& blocked);
  const char* apply(const OpView& view);
  const char* apply_resize(const OpView& view);
  const char* apply_map(const OpView& view);
  const char* fill(std::uint64_t slot);
  const char* empty(std::uint64_t slot);
  Status check_end() const;
  void wake(LaneRun& lane);

  const WorkloadFile& file_;
  const wire::WorkloadHeader& header_;
  Place place_;
  std::vector<SlotState> slots_;
  std::vector<LaneRun> lanes_;
  std::vector<std::uint64_t> next_thread_;  // of the same lane, by index in the thread table
  std::vector<std::uint64_t> runnable_;
  struct Mapping {
    std::uint64_t size, mapped;  // mapped: what is left of it
  };
  std::unordered_map<std::uint64_t, Mapping> mappings_;  // by slot
  std::uint64_t mapped_bytes_ = 0;
  std::uint64_t ops_by_kind_[wire::kMapOpLimit] = {};
  std::uint64_t sync_points_ = 0, live_blocks_ = 0, prologue_blocks_ = 0;
};

const char* Validator::fill(std::uint64_t slot) {
  if (slots_[slot] != SlotState::kEmpty) return "the op fills a slot that still holds a block";
  slots_[slot] = SlotState::kLive;
  ++live_blocks_;
  return nullptr;
}

const char* Validator::empty(std::uint64_t slot) {
  if (slots_[slot] == SlotState::kEmpty) return "the op uses an empty slot";
  if (slots_[slot] == SlotState::kMapping) return kNoBlock;
  if (slots_[slot] == SlotState::kLive) --live_blocks_;
  slots_[slot] = SlotState::kEmpty;
  return nullptr;
}

const char* Validator::apply_resize(const OpView& view) {
  if (slots_[view.slot] == SlotState::kMapping) return kNoBlock;
  switch (view.flags) {
    case 0:
      if (slots_[view.slot] == SlotState::kEmpty) return "the op uses an empty slot";
      if (slots_[view.slot] == SlotState::kPrologue) ++live_blocks_;  // now its size is known
      slots_[view.slot] = SlotState::kLive;
      return nullptr;
    case wire::kOpFailed:
      return view.slot != 0 && slots_[view.slot] == SlotState::kEmpty ? "the op uses an empty slot"
                                                                      : nullptr;
    case wire::kOpFromNull:
      return fill(view.slot);
    case wire::kOpFreesBlock:
      return view.size != 0 ? "a realloc that frees has a size" : empty(view.slot);
    default:
      return "flags that exclude one another, or unknown ones";
  }
}

// Ops on mappings. That parts are unmapped once only is the writer's promise; here the sum of their
// lengths is checked.
const char* Validator::apply_map(const OpView& view) {
  if (!view.wide || view.words != wire::map_op_words(view.op)) return "wrong number of words";
  if (view.slot == 0) return "the op uses slot 0";
  if (view.size == 0 || view.size > kLargestMapping) return "a mapping of no length, or too long";
  if (view.op == Op::kMmap && view.flags != wire::kOpInPlace) {
    const std::uint32_t flags = wire::map_flags(view.value);
    if (view.flags != 0 || view.offset != 0) return "flags that do not belong to this op";
    if ((flags & ~wire::kReplayedMapFlags) != 0 || !(flags & wire::kMapAnonymous)) {
      return "flags of mmap that cannot be replayed";
    }
    if (slots_[view.slot] != SlotState::kEmpty)
      return "the op fills a slot that still holds a block";
    slots_[view.slot] = SlotState::kMapping;
    mappings_[view.slot] = {view.size, view.size};
    mapped_bytes_ += view.size;
    return nullptr;
  }
  if (slots_[view.slot] != SlotState::kMapping) return "the op's slot holds no mapping";
  Mapping& mapping = mappings_[view.slot];
  if (view.op == Op::kMremap) {
    if (view.flags != 0) return "flags that do not belong to this op";
    if (mapping.mapped != mapping.size) return "mremap of a mapping with holes";
    mapped_bytes_ = mapped_bytes_ - mapping.size + view.size;
    mapping = {view.size, view.size};
    return nullptr;
  }
  if (view.offset > mapping.size || view.size > mapping.size - view.offset) {
    return "the part reaches beyond its mapping";
  }
  switch (view.op) {
    case Op::kMmap:
      return nullptr;
    case Op::kMadvise:
      if (view.flags != 0) return "flags that do not belong to this op";
      return wire::is_replayed_advice(view.value) ? nullptr : "advice that cannot be replayed";
    case Op::kMunmap:
      if (view.size > mapping.mapped) return "more is unmapped than there is";
      mapping.mapped -= view.size;
      mapped_bytes_ -= view.size;
      if (view.flags != (mapping.mapped == 0 ? wire::kOpFreesBlock : 0)) {
        return "the flag of the last part is wrong";
      }
      if (mapping.mapped == 0) {
        mappings_.erase(view.slot);
        slots_[view.slot] = SlotState::kEmpty;
      }
      return nullptr;
    default:
      return "the break cannot be moved";
  }
}

// Applies a call to the slots. Returns what is wrong with it, or nullptr.
const char* Validator::apply(const OpView& view) {
  const wire::OpTraits& traits = wire::traits(view.op);
  if (view.slot > header_.slots) return "the op's slot is out of range";
  if (traits.op_class == OpClass::kMap) return apply_map(view);
  if (view.wide) {
    const bool third = traits.takes_alignment || traits.takes_count;
    if (view.words < 2 || view.words > (third ? 3u : 2u)) return "wrong number of words";
  }
  if (traits.takes_alignment && view.words != 3) return "the op lacks its alignment";
  switch (traits.op_class) {
    case OpClass::kAcquire:
      if (view.flags == wire::kOpFailed) {
        return view.slot != 0 ? "a failed op has a slot" : nullptr;
      }
      if (view.flags != 0) return "flags that do not belong to this op";
      return view.slot == 0 ? "the op fills slot 0" : fill(view.slot);
    case OpClass::kResize:
      if (view.slot == 0 && view.flags != wire::kOpFailed) return "the op uses slot 0";
      return apply_resize(view);
    case OpClass::kRelease:
      if (view.flags != 0) return "flags that do not belong to this op";
      return view.slot == 0 ? nullptr : empty(view.slot);
    case OpClass::kQuery:
      if (view.flags != 0) return "flags that do not belong to this op";
      if (view.slot != 0 && slots_[view.slot] == SlotState::kMapping) return kNoBlock;
      return view.slot != 0 && slots_[view.slot] == SlotState::kEmpty ? "the op uses an empty slot"
                                                                      : nullptr;
    default:
      return "unknown opcode";
  }
}

Status Validator::index_threads() {
  const auto threads = file_.threads();
  next_thread_.assign(threads.size(), kNobody);
  for (std::uint64_t i = threads.size(); i-- > 0;) {
    LaneRun& lane = lanes_[threads[i].lane];
    next_thread_[i] = std::exchange(lane.thread, i);
  }
  for (std::uint64_t i = 0; i < threads.size(); ++i) {
    const std::uint64_t next = next_thread_[i];
    const bool first = lanes_[threads[i].lane].thread == i;
    if ((first && threads[i].first_word != 0) ||
        (next != kNobody && threads[next].first_word != threads[i].end_word)) {
      return Error{ErrorCode::kCorrupt, "the threads of a lane do not follow one another",
                   file_.path(), header_.thread_table.offset + i * sizeof(wire::ThreadEntry),
                   "thread_table.first_word"};
    }
  }
  return Nothing{};
}

Status Validator::run_prologue() {
  const wire::LaneEntry& lane = file_.lanes()[header_.lanes];
  place_.lane = header_.lanes;
  for (const auto& chunk : file_.chunks().subspan(lane.first_chunk, lane.chunks)) {
    const auto words = file_.words(chunk);
    const std::uint64_t* end = words.data() + words.size();
    for (const std::uint64_t* p = words.data(); p < end;) {
      place_.position = chunk.first_word + static_cast<std::uint64_t>(p - words.data());
      place_.offset = chunk.offset + static_cast<std::uint64_t>(p - words.data()) * 8;
      OpView view = decode(p, end);
      if (!view) return error("the op reaches beyond its chunk, or has no length", "words");
      const bool size_known = view.flags == wire::kOpSizeKnown;
      if (view.op != Op::kMalloc || (view.flags != 0 && !size_known)) {
        return error("the prologue may hold malloc only", "opcode");
      }
      view.flags = 0;
      if (const char* what = apply(view)) return error(what, "op");
      if (!size_known) {
        --live_blocks_;
        slots_[view.slot] = SlotState::kPrologue;
      }
      ++prologue_blocks_;
      p += view.words;
    }
  }
  return Nothing{};
}

Status Validator::step(std::uint64_t index, LaneRun& lane, const OpView& view,
                       std::uint64_t end_position, bool& blocked) {
  if (wire::is_call_op(view.op)) {
    ++ops_by_kind_[static_cast<int>(view.op)];
    if (const char* what = apply(view)) return error(what, "op");
    return Nothing{};
  }
  switch (view.op) {
    case Op::kWait: {
      if (!view.wide || view.words != 2 || view.flags != 0) return error("malformed wait", "op");
      if (view.slot >= header_.lanes || view.slot == index) {
        return error("the wait names no other lane", "slot");
      }
      if (view.size > file_.lanes()[view.slot].words) {
        return error("the wait is for a position beyond the lane's end", "position");
      }
      LaneRun& other = lanes_[view.slot];
      if (other.published < view.size) {
        lane.wait_position = view.size;
        lane.next_waiter = std::exchange(other.first_waiter, index);
        blocked = true;
        return Nothing{};
      }
      ++sync_points_;
      return Nothing{};
    }
    case Op::kSpawn: {
      if (view.wide || view.slot != 0) return error("malformed spawn", "op");
      if (view.size == 0 || view.size >= header_.lanes || view.size == index) {
        return error("the spawn names no other lane", "size");
      }
      LaneRun& other = lanes_[view.size];
      if (other.running) return error("the lane's thread has not ended yet", "spawn");
      if (other.thread == kNobody) return error("the lane has no more threads", "spawn");
      other.running = true;
      runnable_.push_back(view.size);
      return Nothing{};
    }
    case Op::kExit: {
      if (view.wide || view.slot != 0 || view.size != 0) return error("malformed exit", "op");
      if (!view.publish) return error("the exit does not publish", "publish");
      if (lane.thread == kNobody || file_.threads()[lane.thread].end_word != end_position) {
        return error("the exit is not where the thread table says", "exit");
      }
      lane.thread = next_thread_[lane.thread];
      lane.running = false;
      return Nothing{};
    }
    case Op::kTime:
      if (!view.wide || view.words != 2 || view.flags != 0 || view.slot != 0) {
        return error("malformed time mark", "op");
      }
      return Nothing{};
    default:
      return error("unknown opcode", "opcode");
  }
}

// Runs until the lane blocks, ends a thread, or is through.
Status Validator::run_lane(std::uint64_t index, bool& blocked) {
  LaneRun& lane = lanes_[index];
  place_.lane = index;
  while (lane.running && !blocked) {
    if (lane.chunk == lane.chunk_end) {
      place_.position = file_.lanes()[index].words;
      place_.offset = header_.lane_table.offset + index * sizeof(wire::LaneEntry);
      return error("the lane ends without an exit", "exit");
    }
    const wire::ChunkEntry& chunk = file_.chunks()[lane.chunk];
    const auto words = file_.words(chunk);
    const std::uint64_t* end = words.data() + words.size();
    while (lane.word < chunk.words) {
      place_.position = chunk.first_word + lane.word;
      place_.offset = chunk.offset + lane.word * 8ull;
      const OpView view = decode(words.data() + lane.word, end);
      if (!view) return error("the op reaches beyond its chunk, or has no length", "words");
      const std::uint64_t end_position = place_.position + view.words;
      Status status = step(index, lane, view, end_position, blocked);
      if (!status || blocked) return status;
      lane.word += view.words;
      if (view.publish) lane.published = end_position;
      if (lane.word == chunk.words && !view.publish) {
        return error("the last op of a chunk does not publish", "publish");
      }
      if (!lane.running) break;
    }
    if (lane.word == chunk.words) {
      ++lane.chunk;
      lane.word = 0;
    }
  }
  return Nothing{};
}

// Lanes whose wait on `lane` is met now can run again.
void Validator::wake(LaneRun& lane) {
  std::uint64_t* link = &lane.first_waiter;
  while (*link != kNobody) {
    LaneRun& waiter = lanes_[*link];
    if (waiter.wait_position <= lane.published) {
      runnable_.push_back(*link);
      *link = std::exchange(waiter.next_waiter, kNobody);
    } else {
      link = &waiter.next_waiter;
    }
  }
}

Status Validator::check_end() const {
  for (std::uint64_t i = 0; i < lanes_.size(); ++i) {
    const LaneRun& lane = lanes_[i];
    if (!lane.running && lane.thread == kNobody && lane.chunk == lane.chunk_end) continue;
    const std::uint64_t offset = lane.chunk == lane.chunk_end
                                     ? header_.lane_table.offset + i * sizeof(wire::LaneEntry)
                                     : file_.chunks()[lane.chunk].offset + lane.word * 8ull;
    return Error{ErrorCode::kCorrupt,
                 (lane.running ? "deadlock: a wait in lane " + std::to_string(i) + " is never met"
                               : "the rest of lane " + std::to_string(i) + " is never started"),
                 file_.path(), offset, lane.running ? "wait" : "spawn"};
  }
  for (int i = 0; i < wire::kMapOpLimit; ++i) {
    if (ops_by_kind_[i] != header_.ops_by_kind[i]) {
      const char* name = wire::traits(static_cast<Op>(i)).name;
      return wrong_header(std::string("ops of kind ") + (name ? name : std::to_string(i).c_str()),
                          ops_by_kind_[i], header_.ops_by_kind[i],
                          offsetof(wire::WorkloadHeader, ops_by_kind) + i * 8u, "ops_by_kind");
    }
  }
  std::uint64_t ops = 0, map_ops = 0;
  for (const std::uint64_t n : ops_by_kind_) ops += n;
  for (int i = wire::kMapOpFirst; i < wire::kMapOpLimit; ++i) map_ops += ops_by_kind_[i];
  if (map_ops != 0 && !(header_.required_features & wire::kWorkloadRequiresMaps)) {
    return Error{ErrorCode::kCorrupt, "the header does not say that mappings are replayed",
                 file_.path(), offsetof(wire::WorkloadHeader, required_features),
                 "required_features"};
  }
  const struct {
    const char* what;
    std::uint64_t found, stated, offset;
    const char* field;
  } counts[] = {
      {"ops", ops, header_.ops, offsetof(wire::WorkloadHeader, ops), "ops"},
      {"sync points", sync_points_, header_.sync_points,
       offsetof(wire::WorkloadHeader, sync_points), "sync_points"},
      {"blocks in the prologue", prologue_blocks_, header_.prologue_blocks,
       offsetof(wire::WorkloadHeader, prologue_blocks), "prologue_blocks"},
      {"blocks at the end", live_blocks_, header_.end_live_blocks,
       offsetof(wire::WorkloadHeader, end_live_blocks), "end_live_blocks"},
      {"mapped bytes at the end", mapped_bytes_, header_.end_mapped_bytes,
       offsetof(wire::WorkloadHeader, end_mapped_bytes), "end_mapped_bytes"},
  };
  for (const auto& c : counts) {
    if (c.found != c.stated) return wrong_header(c.what, c.found, c.stated, c.offset, c.field);
  }
  return Nothing{};
}

Status Validator::run() {
  slots_.assign(header_.slots + 1, SlotState::kEmpty);
  lanes_.resize(header_.lanes);
  for (std::uint64_t i = 0; i < lanes_.size(); ++i) {
    const wire::LaneEntry& entry = file_.lanes()[i];
    lanes_[i].chunk = entry.first_chunk;
    lanes_[i].chunk_end = entry.first_chunk + entry.chunks;
  }
  for (auto prepare : {&Validator::index_threads, &Validator::run_prologue}) {
    Status status = (this->*prepare)();
    if (!status) return status;
  }
  lanes_[0].running = true;
  runnable_.push_back(0);
  while (!runnable_.empty()) {
    const std::uint64_t index = runnable_.back();
    runnable_.pop_back();
    bool blocked = false;
    Status status = run_lane(index, blocked);
    if (!status) return status;
    wake(lanes_[index]);
  }
  return check_end();
}

}  // namespace

Status WorkloadFile::validate() const { return Validator(*this).run(); }

}  // namespace alloctape::formats

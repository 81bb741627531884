// Writes small workloads for the simulator's tests. Usage: make_workload KIND FILE [N]
// [LANES|BYTES]
//   churn N            one lane, N calls, half of them frees
//   trigger N          churn, but call N asks for 7777 bytes, and the call after it frees that
//   block functions          every function of the API, in one lane, with NULLs, zeros and failed
//   calls failed_new         an operator new that threw prologue           blocks that lived before
//   the recording: freed, resized, asked about handover N LANES   lane 0 makes batches of blocks,
//   the other lanes free them, in turn threads N LANES    N threads in each lane but 0, one after
//   another, which free each other's
//                      blocks
//   callocs N BYTES    N times calloc(BYTES) and its free
//   idle               nothing but the end
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "formats/workload_writer.h"

using alloctape::formats::Op;
using alloctape::formats::WorkloadWriter;
namespace formats = alloctape::formats;
namespace wire = alloctape::wire;
using Kind = wire::Op;

namespace {

template <typename T>
T sure(formats::Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "make_workload: %s\n", result.error().to_string().c_str());
    std::exit(1);
  }
  return std::move(result).value();
}

// The writer, and the books that it leaves to others: live bytes, threads.
class Script {
 public:
  explicit Script(const std::string& path) : writer_(sure(WorkloadWriter::create(path))) {}

  std::uint32_t add_lane() {
    starts_.push_back(0);
    ops_.push_back(0);
    return writer_.add_lane();
  }
  std::uint64_t op(std::uint32_t lane, Op op) {
    const bool failed = op.flags & wire::kOpFailed;
    const wire::OpClass c = wire::op_class(op.op);
    ++ops_[lane];
    if (op.slot != 0 && !failed && c != wire::OpClass::kQuery) {
      if (op.slot >= sizes_.size()) sizes_.resize(op.slot + 1, kEmpty);
      std::uint64_t& size = sizes_[op.slot];
      if (size != kEmpty) {
        totals_.end_live_bytes -= size;
        --totals_.end_live_blocks;
        size = kEmpty;
      }
      if (c != wire::OpClass::kRelease && !(op.flags & wire::kOpFreesBlock))
        add_block(op.slot, op.size);
    }
    return sure(writer_.append(lane, op));
  }
  void prologue(std::uint64_t slot, std::uint64_t size) {
    sure(writer_.append_prologue(slot, size));
    if (slot >= sizes_.size()) sizes_.resize(slot + 1, kEmpty);
    // Of unknown size, and so in nobody's books until a realloc tells it.
  }
  void wait(std::uint32_t lane, std::uint32_t other, std::uint64_t position) {
    sure(writer_.append_wait(lane, other, position));
  }
  void spawn(std::uint32_t lane, std::uint32_t other) { sure(writer_.append_spawn(lane, other)); }
  std::uint64_t exit(std::uint32_t lane) {
    const std::uint64_t end = sure(writer_.append_exit(lane));
    const std::uint64_t thread = totals_.threads.size();
    totals_.threads.push_back({thread, lane, starts_[lane], end, ops_[lane], 0, 1});
    starts_[lane] = end;
    ops_[lane] = 0;
    return end;
  }
  std::uint64_t publish(std::uint32_t lane, std::uint64_t position) {
    return writer_.publish(lane, position);
  }
  void finish() {
    totals_.slots = sizes_.empty() ? 0 : sizes_.size() - 1;
    totals_.recorded_ns = 1;
    sure(writer_.finish(totals_));
  }

 private:
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};
  void add_block(std::uint64_t slot, std::uint64_t size) {
    sizes_[slot] = size;
    totals_.end_live_bytes += size;
    ++totals_.end_live_blocks;
    totals_.peak_live_bytes = std::max(totals_.peak_live_bytes, totals_.end_live_bytes);
    totals_.peak_live_blocks = std::max(totals_.peak_live_blocks, totals_.end_live_blocks);
  }

  WorkloadWriter writer_;
  WorkloadWriter::Totals totals_;
  std::vector<std::uint64_t> sizes_ = {kEmpty};
  std::vector<std::uint64_t> starts_, ops_;
};

std::uint64_t g_random = 88172645463325252u;
std::uint64_t random_below(std::uint64_t limit) {
  g_random ^= g_random << 13;
  g_random ^= g_random >> 7;
  g_random ^= g_random << 17;
  return g_random % limit;
}

Op acquire(Kind kind, std::uint64_t slot, std::uint64_t size, std::uint64_t alignment = 0) {
  return {kind, 0, slot, size, alignment, 0};
}
Op release(Kind kind, std::uint64_t slot, std::uint64_t size = 0, std::uint64_t alignment = 0) {
  return {kind, 0, slot, size, alignment, 0};
}

void churn(Script& script, std::uint64_t calls, std::uint64_t trigger) {
  script.add_lane();
  std::vector<bool> live(1001);
  for (std::uint64_t i = 0; i < calls; ++i) {
    if (trigger != 0 && i == trigger)
      script.op(0, acquire(Kind::kMalloc, 1001, 7777));
    else if (trigger != 0 && i == trigger + 1)
      script.op(0, release(Kind::kFree, 1001));
    else {
      const std::uint64_t slot = 1 + random_below(1000);
      if (live[slot])
        script.op(0, release(Kind::kFree, slot));
      else
        script.op(0, acquire(Kind::kMalloc, slot, 16 + random_below(1009)));
      live[slot] = !live[slot];
    }
  }
  script.exit(0);
}

void functions(Script& script) {
  script.add_lane();
  const std::uint64_t huge = ~std::uint64_t{0} / 4;
  auto pair = [&](const Op& a, const Op& b) {
    script.op(0, a);
    script.op(0, {Kind::kMallocUsableSize, 0, a.slot, 0, 0, 0});
    script.op(0, b);
  };
  for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{24},
                                   std::uint64_t{4096}, std::uint64_t{300'000}}) {
    pair(acquire(Kind::kMalloc, 1, size), release(Kind::kFree, 1));
    pair(acquire(Kind::kCalloc, 2, size), release(Kind::kFreeSized, 2, size));
    pair(acquire(Kind::kPosixMemalign, 3, size, 64), release(Kind::kFree, 3));
    pair(acquire(Kind::kAlignedAlloc, 4, (size + 255) / 256 * 256, 256),
         release(Kind::kFreeAlignedSized, 4, (size + 255) / 256 * 256, 256));
    pair(acquire(Kind::kMemalign, 5, size, 4096), release(Kind::kFree, 5));
    pair(acquire(Kind::kValloc, 6, size), release(Kind::kFree, 6));
    pair(acquire(Kind::kPvalloc, 7, size), release(Kind::kFree, 7));
    pair(acquire(Kind::kNew, 8, size), release(Kind::kDelete, 8));
    pair(acquire(Kind::kNew, 8, size), release(Kind::kDeleteSized, 8, size));
    pair(acquire(Kind::kNewArray, 9, size), release(Kind::kDeleteArray, 9));
    pair(acquire(Kind::kNewArray, 9, size), release(Kind::kDeleteArraySized, 9, size));
    pair(acquire(Kind::kNewNothrow, 10, size), release(Kind::kDeleteNothrow, 10));
    pair(acquire(Kind::kNewArrayNothrow, 11, size), release(Kind::kDeleteArrayNothrow, 11));
    pair(acquire(Kind::kNewAligned, 12, size, 64), release(Kind::kDeleteAligned, 12, 0, 64));
    pair(acquire(Kind::kNewAligned, 12, size, 64),
         release(Kind::kDeleteSizedAligned, 12, size, 64));
    pair(acquire(Kind::kNewArrayAligned, 13, size, 64),
         release(Kind::kDeleteArrayAligned, 13, 0, 64));
    pair(acquire(Kind::kNewArrayAligned, 13, size, 64),
         release(Kind::kDeleteArraySizedAligned, 13, size, 64));
    pair(acquire(Kind::kNewAlignedNothrow, 14, size, 64),
         release(Kind::kDeleteAlignedNothrow, 14, 0, 64));
    pair(acquire(Kind::kNewArrayAlignedNothrow, 15, size, 64),
         release(Kind::kDeleteArrayAlignedNothrow, 15, 0, 64));
    script.op(0, {Kind::kRealloc, wire::kOpFromNull, 16, size, 0, 0});
    script.op(0, {Kind::kRealloc, 0, 16, size + 1000, 0, 0});
    script.op(0, {Kind::kReallocarray, 0, 16, size * 3 + 1, 0, 0});
    script.op(0, {Kind::kRealloc, wire::kOpFailed, 16, huge, 0, 0});
    script.op(0, {Kind::kReallocarray, wire::kOpFailed, 16, huge, 0, 16});
    script.op(0, {Kind::kRealloc, wire::kOpFreesBlock, 16, 0, 0, 0});
  }
  for (const Kind kind : {Kind::kFree, Kind::kDelete, Kind::kDeleteArray, Kind::kMallocUsableSize})
    script.op(0, release(kind, 0));
  for (const Kind kind : {Kind::kMalloc, Kind::kCalloc, Kind::kMemalign, Kind::kNewNothrow})
    script.op(0, {kind, wire::kOpFailed, 0, huge, kind == Kind::kMemalign ? 64u : 0u, 0});
  script.op(0, {Kind::kCalloc, wire::kOpFailed, 0, huge, 0, 16});
  script.exit(0);
}

// A throwing operator new that could not be served: some allocators abort there.
void failed_new(Script& script) {
  script.add_lane();
  script.op(0, acquire(Kind::kNew, 1, 100));
  script.op(0, {Kind::kNew, wire::kOpFailed, 0, ~std::uint64_t{0} / 4, 0, 0});
  script.op(0, release(Kind::kDelete, 1));
  script.exit(0);
}

void prologue(Script& script) {
  script.add_lane();
  for (std::uint64_t slot = 1; slot <= 100; ++slot) script.prologue(slot, slot * 100);
  for (std::uint64_t slot = 1; slot <= 50; ++slot) script.op(0, release(Kind::kFree, slot));
  for (std::uint64_t slot = 51; slot <= 80; ++slot)
    script.op(0, {Kind::kRealloc, 0, slot, slot * 200, 0, 0});
  for (std::uint64_t slot = 51; slot <= 60; ++slot) script.op(0, release(Kind::kFree, slot));
  script.exit(0);
}

void callocs(Script& script, std::uint64_t calls, std::uint64_t bytes) {
  script.add_lane();
  for (std::uint64_t i = 0; i < calls; ++i) {
    script.op(0, acquire(Kind::kCalloc, 1, bytes));
    script.op(0, release(Kind::kFree, 1));
  }
  script.exit(0);
}

// Blocks go from lane 0 to the others in batches, four batches in flight for each lane.
void handover(Script& script, std::uint64_t batches, std::uint32_t lanes) {
  constexpr std::uint64_t kBatch = 64;
  for (std::uint32_t lane = 0; lane < lanes; ++lane) script.add_lane();
  for (std::uint32_t lane = 1; lane < lanes; ++lane) script.spawn(0, lane);
  std::vector<std::uint64_t> freed(lanes * 4);
  for (std::uint64_t b = 0; b < batches; ++b) {
    const auto lane = static_cast<std::uint32_t>(1 + b % (lanes - 1));
    const std::uint64_t buffer = (lane - 1) * 4 + b / (lanes - 1) % 4;
    if (freed[buffer]) script.wait(0, lane, freed[buffer]);
    std::uint64_t position = 0;
    for (std::uint64_t i = 0; i < kBatch; ++i)
      position = script.op(
          0, acquire(i % 2 ? Kind::kNew : Kind::kMalloc, buffer * kBatch + i + 1, 32 + i * 8));
    script.wait(lane, 0, script.publish(0, position));
    for (std::uint64_t i = 0; i < kBatch; ++i)
      position =
          script.op(lane, release(i % 2 ? Kind::kDelete : Kind::kFree, buffer * kBatch + i + 1));
    freed[buffer] = script.publish(lane, position);
  }
  for (std::uint32_t lane = 0; lane < lanes; ++lane) script.exit(lane);
}

void threads(Script& script, std::uint64_t generations, std::uint32_t lanes) {
  constexpr std::uint64_t kBlocks = 10;
  for (std::uint32_t lane = 0; lane < lanes; ++lane) script.add_lane();
  std::vector<std::uint64_t> ended(lanes);
  for (std::uint64_t g = 0; g < generations; ++g) {
    for (std::uint32_t lane = 1; lane < lanes; ++lane) {
      if (g != 0) script.wait(0, lane, ended[lane]);
      script.spawn(0, lane);
      const std::uint64_t mine = (g % 2 * lanes + lane) * kBlocks + 1;
      const std::uint64_t older = ((g + 1) % 2 * lanes + lane) * kBlocks + 1;
      for (std::uint64_t i = 0; i < kBlocks; ++i) {
        if (g != 0) script.op(lane, release(Kind::kFree, older + i));
        script.op(lane, acquire(Kind::kMalloc, mine + i, 100 + i));
      }
      ended[lane] = script.exit(lane);
    }
  }
  script.exit(0);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const std::string kind = argv[1];
  const std::uint64_t n = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 0;
  const std::uint64_t second = argc > 4 ? std::strtoull(argv[4], nullptr, 10) : 2;
  const auto lanes = static_cast<std::uint32_t>(second);
  Script script(argv[2]);
  if (kind == "churn")
    churn(script, n, 0);
  else if (kind == "trigger")
    churn(script, n + 10, n);
  else if (kind == "functions")
    functions(script);
  else if (kind == "failed_new")
    failed_new(script);
  else if (kind == "prologue")
    prologue(script);
  else if (kind == "handover")
    handover(script, n, lanes);
  else if (kind == "threads")
    threads(script, n, lanes);
  else if (kind == "callocs")
    callocs(script, n, second);
  else if (kind == "idle")
    script.exit(script.add_lane());
  else
    return 2;
  script.finish();
  return 0;
}

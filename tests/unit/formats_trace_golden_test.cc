// The golden traces: read as they were written, whole and cut at every byte.
#include <map>

#include "formats/heap_walk.h"
#include "temp_trace.h"
#include "tests/golden/trace_text.h"

namespace alloctape::formats::test {
namespace {

const std::string kGolden = std::string(ALLOCTAPE_GOLDEN_DIRECTORY) + "/v1.atrace";

TEST(GoldenTrace, ReadsAsItWasWritten) {
  EXPECT_EQ(trace_text(open_trace(kGolden)), read_bytes(kGolden + ".expected"));
}

TEST(GoldenTrace, HoldsEveryOpAndEveryKindOfWord) {
  const TraceFile file = open_trace(kGolden);
  std::map<int, int> ops, kinds;
  for (std::uint32_t i = 0; i < file.streams().size(); ++i) {
    for (const Event& e : decode(file, i)) {
      ++ops[static_cast<int>(e.op)];
      std::uint64_t word;
      std::memcpy(&word, file.data() + e.offset, sizeof word);
      ++kinds[static_cast<int>(wire::word_kind(word))];
    }
  }
  // Of the ops that there were when it was made.
  for (int op = 1; op <= static_cast<int>(wire::Op::kMark); ++op) {
    const wire::OpClass op_class = wire::op_class(static_cast<wire::Op>(op));
    if (op_class != wire::OpClass::kInvalid && op_class != wire::OpClass::kMap) {
      EXPECT_GT(ops[op], 0) << wire::traits(static_cast<wire::Op>(op)).name;
    }
  }
  for (int kind = 1; kind < 16; ++kind) EXPECT_GT(kinds[kind], 0) << "kind " << kind;
}

// Streams stand interleaved in the file, and a staged tail may stand before or behind its body:
// what a cut leaves is, of each stream, events that are there in the whole, in their order.
TEST(GoldenTrace, CutAtEveryByteLosesEventsButNeverInventsAny) {
  const std::string whole_bytes = read_bytes(kGolden);
  std::map<std::uint64_t, std::string> whole;  // by offset
  {
    const TraceFile file = open_trace(kGolden);
    for (std::uint32_t i = 0; i < file.streams().size(); ++i) {
      for (const Event& e : decode(file, i)) whole[e.offset] = event_text(e);
    }
  }
  TempPath path;
  write_bytes(path.str(), whole_bytes);
  std::size_t before = whole.size();
  for (std::size_t size = whole_bytes.size(); size-- > 0;) {
    ASSERT_EQ(::truncate(path.str().c_str(), static_cast<long>(size)), 0);
    const auto file = TraceFile::open(path.str());
    if (!file.ok()) {
      ASSERT_LT(size, sizeof(wire::TraceHeader));
      ASSERT_EQ(file.error().code, ErrorCode::kTruncated);
      continue;
    }
    ASSERT_GE(size, sizeof(wire::TraceHeader));
    std::size_t events = 0;
    for (std::uint32_t i = 0; i < file.value().streams().size(); ++i) {
      std::uint64_t last_stamp = 0;
      for (const Event& e : decode(file.value(), i)) {
        const auto there = whole.find(e.offset);
        ASSERT_NE(there, whole.end()) << "cut at " << size << ", event at " << e.offset;
        ASSERT_EQ(event_text(e), there->second) << "cut at " << size;
        ASSERT_GE(e.stamp, last_stamp);
        last_stamp = e.stamp;
        ++events;
      }
    }
    ASSERT_LE(events, before);
    before = events;
    HeapVisitor ignore;
    ASSERT_EQ(HeapWalk(file.value()).run(ignore).events, events);
  }
}

}  // namespace
}  // namespace alloctape::formats::test

// docs/formats/trace.md says what the code does: its example is read as a trace, its layout tables
// are compared with the structures, its opcodes with the table.
#include <map>
#include <regex>
#include <sstream>

#include "temp_trace.h"
#include "tests/unit/document_text.h"

namespace alloctape::formats::test {
namespace {

std::string document() {
  const std::string text = read_bytes(ALLOCTAPE_TRACE_DOCUMENT);
  EXPECT_FALSE(text.empty()) << ALLOCTAPE_TRACE_DOCUMENT;
  return text;
}

TEST(TraceDocument, ItsExampleIsATraceOfTheEventsItLists) {
  const std::string text = document();
  std::smatch size;
  ASSERT_TRUE(std::regex_search(text, size, std::regex("the file has (\\d+) bytes")));
  std::string bytes(std::stoul(size[1]), '\0');
  std::size_t shown = 0;
  for (const std::string& line : lines_between(text, "```hex", "```")) {
    if (line.empty() || line[0] == '#') continue;
    std::size_t at = std::stoul(line.substr(0, 8), nullptr, 16);
    std::istringstream in(line.substr(9));
    for (unsigned value; in >> std::hex >> value; ++shown) {
      ASSERT_LT(at, bytes.size());
      bytes[at++] = static_cast<char>(value);
    }
  }
  ASSERT_GT(shown, 250u);
  TempPath path;
  write_bytes(path.str(), bytes);
  const TraceFile file = open_trace(path.str());
  EXPECT_TRUE(file.warnings().empty());
  EXPECT_FALSE(file.truncated());
  EXPECT_EQ(file.header().pid, 4242u);
  EXPECT_EQ(file.metadata().executable, "/bin/demo");
  std::vector<std::string> events;
  for (const Event& e : decode(file, 0)) {
    events.push_back(fmt::format(
        "{:#x} {} stamp={} release_stamp={} thread={} pointer={:#x} old_pointer={:#x} size={} "
        "alignment={} path={:#x} value={}",
        e.offset, wire::traits(e.op).name, e.stamp, e.release_stamp,
        static_cast<std::uint32_t>(e.thread), e.pointer, e.old_pointer, e.size, e.alignment, e.path,
        e.value));
  }
  EXPECT_EQ(events, lines_between(text, "```events", "```"));
}

using Layout = std::map<std::string, std::pair<std::size_t, std::size_t>>;  // field: offset, size

Layout layout_in_document(const std::string& heading) {
  Layout layout;
  const std::regex row("\\| `(\\w+)` \\| (\\d+) \\| (\\d+) \\|.*");
  for (const std::string& line : lines_between(document(), "\n" + heading + "\n\n", "\n#")) {
    std::smatch m;
    if (std::regex_match(line, m, row)) layout[m[1]] = {std::stoul(m[2]), std::stoul(m[3])};
  }
  return layout;
}

#define FIELD(type, name)                                           \
  {                                                                 \
#name, { offsetof(wire::type, name), sizeof(wire::type::name) } \
  }

TEST(TraceDocument, ItsLayoutTablesAreThoseOfTheStructures) {
  EXPECT_EQ(layout_in_document("### TraceHeader"), (Layout{FIELD(TraceHeader, magic),
                                                           FIELD(TraceHeader, version),
                                                           FIELD(TraceHeader, reserved0),
                                                           FIELD(TraceHeader, header_bytes),
                                                           FIELD(TraceHeader, features),
                                                           FIELD(TraceHeader, required_features),
                                                           FIELD(TraceHeader, pid),
                                                           FIELD(TraceHeader, parent_pid),
                                                           FIELD(TraceHeader, image_id),
                                                           FIELD(TraceHeader, parent_image_id),
                                                           FIELD(TraceHeader, process_start_ticks),
                                                           FIELD(TraceHeader, image_sequence),
                                                           FIELD(TraceHeader, page_bytes),
                                                           FIELD(TraceHeader, clock_kind),
                                                           FIELD(TraceHeader, clock_shift),
                                                           FIELD(TraceHeader, ticks_per_second),
                                                           FIELD(TraceHeader, start_ticks),
                                                           FIELD(TraceHeader, start_monotonic_ns),
                                                           FIELD(TraceHeader, start_realtime_ns),
                                                           FIELD(TraceHeader, ring_offset),
                                                           FIELD(TraceHeader, ring_bytes),
                                                           FIELD(TraceHeader, max_bytes),
                                                           FIELD(TraceHeader, reserved1),
                                                           FIELD(TraceHeader, control),
                                                           FIELD(TraceHeader, reserved2),
                                                           FIELD(TraceHeader, reset_stamp),
                                                           FIELD(TraceHeader, reserved3),
                                                           FIELD(TraceHeader, file_end),
                                                           FIELD(TraceHeader, dropped_events),
                                                           FIELD(TraceHeader, next_stream),
                                                           FIELD(TraceHeader, next_thread),
                                                           FIELD(TraceHeader, state),
                                                           FIELD(TraceHeader, stop_errno),
                                                           FIELD(TraceHeader, reserved4),
                                                           FIELD(TraceHeader, anchor_lock),
                                                           FIELD(TraceHeader, last_ticks),
                                                           FIELD(TraceHeader, last_monotonic_ns),
                                                           FIELD(TraceHeader, ring_next),
                                                           FIELD(TraceHeader, overwritten_events),
                                                           FIELD(TraceHeader, overwritten_blocks),
                                                           FIELD(TraceHeader, released_bytes),
                                                           FIELD(TraceHeader, index_offset),
                                                           FIELD(TraceHeader, reserved5)}));
  EXPECT_EQ(layout_in_document("### BlockHeader"),
            (Layout{FIELD(BlockHeader, magic), FIELD(BlockHeader, type),
                    FIELD(BlockHeader, reserved0), FIELD(BlockHeader, payload_bytes),
                    FIELD(BlockHeader, stream), FIELD(BlockHeader, thread),
                    FIELD(BlockHeader, sequence), FIELD(BlockHeader, first_stamp),
                    FIELD(BlockHeader, staging_state), FIELD(BlockHeader, blocks),
                    FIELD(BlockHeader, dropped_events), FIELD(BlockHeader, events)}));
  EXPECT_EQ(layout_in_document("## Metadata"),
            (Layout{FIELD(MetadataEntry, key), FIELD(MetadataEntry, bytes)}));
  EXPECT_EQ(
      layout_in_document("## RSS samples"),
      (Layout{FIELD(RssSample, ticks), FIELD(RssSample, anon_bytes), FIELD(RssSample, vm_bytes)}));
  EXPECT_EQ(layout_in_document("## Marks"),
            (Layout{FIELD(MarkEntry, stamp), FIELD(MarkEntry, tid), FIELD(MarkEntry, bytes)}));
  EXPECT_EQ(
      layout_in_document("## Index"),
      (Layout{FIELD(IndexEntry, offset), FIELD(IndexEntry, first_stamp),
              FIELD(IndexEntry, last_stamp), FIELD(IndexEntry, sequence), FIELD(IndexEntry, events),
              FIELD(IndexEntry, words), FIELD(IndexEntry, stream), FIELD(IndexEntry, blocks),
              FIELD(IndexEntry, first_thread), FIELD(IndexEntry, last_thread)}));
}

TEST(TraceDocument, ItsOpcodesAreThoseOfTheTable) {
  std::map<int, std::string> listed, known;
  const std::regex cell("\\| (\\d+) \\| `([^`]+)` ");
  for (const std::string& line : lines_between(document(), "### Opcodes", "\n## ")) {
    for (std::sregex_iterator i(line.begin(), line.end(), cell), end; i != end; ++i) {
      listed[std::stoi((*i)[1])] = (*i)[2];
    }
  }
  for (int op = 1; op < 112; ++op) {
    const auto& traits = wire::traits(static_cast<wire::Op>(op));
    if (traits.op_class != wire::OpClass::kInvalid) known[op] = traits.name;
  }
  EXPECT_EQ(listed, known);
}

}  // namespace
}  // namespace alloctape::formats::test

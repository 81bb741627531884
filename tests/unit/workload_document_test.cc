// docs/formats/workload.md says what the code does: its example is read as a workload, its layout
// tables are compared with the structures.
#include <map>
#include <sstream>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "formats/workload_file.h"
#include "tests/golden/workload_text.h"
#include "tests/unit/document_text.h"
#include "tests/unit/temp_workload.h"

namespace alloctape::formats {
namespace {

using testing::TempFile;

std::string document() {
  std::ifstream in(ALLOCTAPE_WORKLOAD_DOCUMENT);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  EXPECT_FALSE(text.empty()) << ALLOCTAPE_WORKLOAD_DOCUMENT;
  return text;
}

TEST(WorkloadDocument, ItsExampleIsAWorkloadOfTheOpsItLists) {
  const std::string text = document();
  const std::string before_size = "the file has ";
  const std::size_t size_at = text.find(before_size);
  ASSERT_NE(size_at, std::string::npos);
  std::string bytes(std::stoul(text.substr(size_at + before_size.size())), '\0');
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
  ASSERT_GT(shown, 400u);
  TempFile temp;
  temp.write(bytes);
  auto file = WorkloadFile::open(temp.path());
  ASSERT_TRUE(file.ok()) << file.error().to_string();
  Status status = file->validate();
  EXPECT_TRUE(status.ok()) << status.error().to_string();
  // The listing, without the lane's name in front and the blanks that align it.
  std::vector<std::string> listed;
  for (const std::string& line : lines_between(text, "```text", "```")) {
    listed.push_back(line.substr(line.find_first_not_of(' ', 9)));
  }
  std::vector<std::string> found;
  std::istringstream in(workload_text(*file));
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("  ")) found.push_back(line.substr(2));
  }
  EXPECT_EQ(listed, found);
}

using Layout = std::map<std::string, std::pair<std::size_t, std::size_t>>;

Layout layout_in_document(const std::string& heading) {
  Layout layout;
  // Rows like: | `field` | 8 | 2 | meaning |
  for (const std::string& line : lines_between(document(), heading + "\n", "\n#")) {
    if (!line.starts_with("| `")) continue;
    std::istringstream in(line);
    std::string bar, name;
    std::size_t offset = 0, size = 0;
    if (in >> bar >> name >> bar >> offset >> bar >> size) {
      layout[name.substr(1, name.size() - 2)] = {offset, size};
    }
  }
  return layout;
}

#define FIELD(type, name)                                           \
  {                                                                 \
#name, { offsetof(wire::type, name), sizeof(wire::type::name) } \
  }

TEST(WorkloadDocument, ItsLayoutTablesAreTheStructures) {
  EXPECT_EQ(layout_in_document("### WorkloadHeader"),
            (Layout{FIELD(WorkloadHeader, magic),
                    FIELD(WorkloadHeader, version),
                    FIELD(WorkloadHeader, complete),
                    FIELD(WorkloadHeader, header_bytes),
                    FIELD(WorkloadHeader, features),
                    FIELD(WorkloadHeader, required_features),
                    FIELD(WorkloadHeader, file_bytes),
                    FIELD(WorkloadHeader, order),
                    FIELD(WorkloadHeader, lanes),
                    FIELD(WorkloadHeader, threads),
                    FIELD(WorkloadHeader, slots),
                    FIELD(WorkloadHeader, ops),
                    FIELD(WorkloadHeader, sync_points),
                    FIELD(WorkloadHeader, prologue_blocks),
                    FIELD(WorkloadHeader, peak_live_bytes),
                    FIELD(WorkloadHeader, peak_live_blocks),
                    FIELD(WorkloadHeader, end_live_bytes),
                    FIELD(WorkloadHeader, end_live_blocks),
                    FIELD(WorkloadHeader, recorded_ns),
                    FIELD(WorkloadHeader, provenance),
                    FIELD(WorkloadHeader, lane_table),
                    FIELD(WorkloadHeader, chunk_table),
                    FIELD(WorkloadHeader, thread_table),
                    FIELD(WorkloadHeader, live_curve),
                    FIELD(WorkloadHeader, rss_curve),
                    FIELD(WorkloadHeader, ops_by_kind),
                    FIELD(WorkloadHeader, peak_mapped_bytes),
                    FIELD(WorkloadHeader, end_mapped_bytes)}));
  EXPECT_EQ(layout_in_document("### LaneEntry"),
            (Layout{FIELD(LaneEntry, first_chunk), FIELD(LaneEntry, chunks),
                    FIELD(LaneEntry, words), FIELD(LaneEntry, threads)}));
  EXPECT_EQ(layout_in_document("### ChunkEntry"),
            (Layout{FIELD(ChunkEntry, lane), FIELD(ChunkEntry, words), FIELD(ChunkEntry, offset),
                    FIELD(ChunkEntry, first_word)}));
  EXPECT_EQ(
      layout_in_document("### ThreadEntry"),
      (Layout{FIELD(ThreadEntry, thread), FIELD(ThreadEntry, lane), FIELD(ThreadEntry, first_word),
              FIELD(ThreadEntry, end_word), FIELD(ThreadEntry, ops), FIELD(ThreadEntry, start_ns),
              FIELD(ThreadEntry, end_ns)}));
  EXPECT_EQ(layout_in_document("### CurvePoint"),
            (Layout{FIELD(CurvePoint, ns), FIELD(CurvePoint, ops), FIELD(CurvePoint, bytes)}));
}

}  // namespace
}  // namespace alloctape::formats

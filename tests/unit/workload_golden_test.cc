// Workloads of every released version stay readable for ever.
#include <fcntl.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "formats/workload_file.h"
#include "tests/golden/workload_text.h"
#include "tests/unit/temp_workload.h"

namespace alloctape::formats {
namespace {

using testing::TempFile;

const std::string kGolden = std::string(ALLOCTAPE_GOLDEN_DIRECTORY) + "/v1.awl";

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(GoldenWorkload, VersionOneReadsAsItDid) {
  auto file = WorkloadFile::open(kGolden);
  ASSERT_TRUE(file.ok()) << file.error().to_string();
  Status status = file->validate();
  EXPECT_TRUE(status.ok()) << status.error().to_string();
  EXPECT_EQ(workload_text(*file), read_file(kGolden + ".expected"));
}

TEST(GoldenWorkload, CutAtAnyByteItIsAClearError) {
  const std::string bytes = read_file(kGolden);
  ASSERT_GT(bytes.size(), 60'000u);
  TempFile temp;
  temp.write(bytes);
  for (std::size_t n = bytes.size(); n-- > 0;) {
    ASSERT_EQ(::truncate(temp.path().c_str(), static_cast<off_t>(n)), 0);
    auto file = WorkloadFile::open(temp.path());
    ASSERT_FALSE(file.ok()) << n;
    const Error& error = file.error();
    EXPECT_EQ(error.code, n < 8 ? ErrorCode::kNotThisFormat : ErrorCode::kTruncated) << n;
    EXPECT_TRUE(error.offset.has_value());
    EXPECT_FALSE(error.field.empty());
  }
}

}  // namespace
}  // namespace alloctape::formats

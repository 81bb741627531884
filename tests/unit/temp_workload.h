// Files of a test's own, gone when the test is.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "formats/workload_file.h"
#include "formats/workload_writer.h"

namespace alloctape::formats::testing {

class TempFile {
 public:
  explicit TempFile(const std::string& suffix = ".awl") {
    const char* directory = std::getenv("TMPDIR");
    path_ = std::string(directory != nullptr ? directory : "/tmp") + "/alloctape-XXXXXX" + suffix;
    const int fd = ::mkstemps(path_.data(), static_cast<int>(suffix.size()));
    EXPECT_GE(fd, 0);
    ::close(fd);
  }
  ~TempFile() { ::unlink(path_.c_str()); }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  const std::string& path() const { return path_; }

  std::string read() const {
    std::ifstream in(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::string& bytes) const {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << bytes;
  }
  // In place: replacing a file's whole content makes some file systems write it to the disk.
  template <typename T>
  void patch(std::uint64_t offset, T value) const {
    std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(offset));
    file.write(reinterpret_cast<const char*>(&value), sizeof value);
  }

 private:
  std::string path_;
};

// Totals for lanes that each hold one thread.
inline WorkloadWriter::Totals totals_of(const WorkloadWriter& writer, std::uint32_t lanes,
                                        std::uint64_t slots, std::uint64_t end_live_blocks) {
  WorkloadWriter::Totals totals;
  totals.slots = slots;
  totals.end_live_blocks = end_live_blocks;
  for (std::uint32_t i = 0; i < lanes; ++i) {
    totals.threads.push_back(
        {.thread = i, .lane = i, .first_word = 0, .end_word = writer.position(i)});
  }
  return totals;
}

}  // namespace alloctape::formats::testing

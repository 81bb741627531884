// Traces for tests: files that vanish, events in one line, bytes to tamper with.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "formats/trace_file.h"
#include "formats/trace_writer.h"

namespace alloctape::formats::test {

// A path in the temporary directory; what lies there is removed at the end.
class TempPath {
 public:
  explicit TempPath(const std::string& suffix = ".atrace") {
    static std::atomic<int> serial{0};
    path_ = fmt::format("{}/alloctape-test-{}-{}{}", ::testing::TempDir(), ::getpid(), ++serial,
                        suffix);
  }
  ~TempPath() { ::unlink(path_.c_str()); }
  TempPath(const TempPath&) = delete;
  TempPath& operator=(const TempPath&) = delete;
  const std::string& str() const { return path_; }

 private:
  std::string path_;
};

inline std::string read_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<long>(bytes.size()));
}
template <typename T>
T load_at(const std::string& bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}
template <typename T>
void store_at(std::string& bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

inline Event make_event(wire::Op op, std::uint64_t stamp, std::uint64_t pointer = 0,
                        std::uint64_t size = 0) {
  Event e;
  e.op = op;
  e.stamp = e.release_stamp = stamp;
  e.pointer = pointer;
  e.size = size;
  return e;
}
inline Event acquire(std::uint64_t stamp, std::uint64_t pointer, std::uint64_t size) {
  return make_event(wire::Op::kMalloc, stamp, pointer, size);
}
inline Event release(std::uint64_t stamp, std::uint64_t pointer) {
  return make_event(wire::Op::kFree, stamp, pointer);
}
inline Event resize(std::uint64_t release_stamp, std::uint64_t stamp, std::uint64_t old_pointer,
                    std::uint64_t pointer, std::uint64_t size) {
  Event e = make_event(wire::Op::kRealloc, stamp, pointer, size);
  e.release_stamp = release_stamp;
  e.old_pointer = old_pointer;
  return e;
}

struct StreamEvent {
  std::uint32_t stream;
  Event event;
};

inline void write_trace(const std::string& path, const std::vector<StreamEvent>& events,
                        const TraceWriter::Options& options = {},
                        const std::vector<wire::RssSample>& rss = {},
                        const std::vector<TraceMark>& marks = {}) {
  auto writer = TraceWriter::create(path, options);
  ASSERT_TRUE(writer.ok()) << writer.error().to_string();
  for (const StreamEvent& e : events) {
    const Status status = writer->append(StreamIndex{e.stream}, e.event);
    ASSERT_TRUE(status.ok()) << status.error().to_string();
  }
  ASSERT_TRUE(writer->add_rss(rss).ok());
  for (const TraceMark& mark : marks) ASSERT_TRUE(writer->add_mark(mark).ok());
  ASSERT_TRUE(writer->finish().ok());
}

inline TraceFile open_trace(const std::string& path) {
  auto file = TraceFile::open(path);
  if (!file.ok()) throw std::runtime_error(file.error().to_string());
  return *file;
}

// All events of a stream; decoding errors go to `errors`, and decoding goes on with the next block.
inline std::vector<Event> decode(const TraceFile& file, std::uint32_t stream,
                                 std::vector<Error>* errors = nullptr) {
  std::vector<Event> events;
  StreamDecoder decoder(file, StreamIndex{stream});
  Event e;
  do {
    while (decoder.next(e)) events.push_back(e);
    if (decoder.error() != nullptr) {
      if (errors == nullptr) {
        ADD_FAILURE() << decoder.error()->to_string();
        return events;
      }
      errors->push_back(*decoder.error());
    }
  } while (decoder.error() != nullptr && decoder.skip_block());
  return events;
}

// Everything but the offset, in one line: what comparisons show.
inline std::string describe(const Event& e) {
  std::string text = fmt::format(
      "{} path={:#x} thread={} stamp={} release={} pointer={:#x} old={:#x} size={} "
      "count={} alignment={} value={}",
      wire::traits(e.op).name ? wire::traits(e.op).name : "?", e.path,
      static_cast<std::uint32_t>(e.thread), e.stamp, e.release_stamp, e.pointer, e.old_pointer,
      e.size, e.count, e.alignment, e.value);
  if (e.notes & kNoteUsable) text += fmt::format(" usable={}", e.usable);
  if (e.notes & kNoteOldUsable) text += fmt::format(" old_usable={}", e.old_usable);
  if (e.notes & kNoteDuration) text += fmt::format(" duration={}", e.duration_ticks);
  return text;
}

}  // namespace alloctape::formats::test

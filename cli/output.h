// Standard output for commands that print much: buffered, and quiet about a reader that has gone
// away
// (`alloctape dump FILE | head`).
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <iterator>
#include <string_view>
#include <utility>

namespace alloctape::cli {

// Thrown when whoever read our standard output closed it. Main ends the program quietly.
struct OutputClosed {};

// Thread safety: one thread. Not to be mixed with stdio's stdout between two flush() calls.
class Output {
 public:
  Output() = default;
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
  // Does not flush: a destructor could not report a full disk. Call flush() when done.
  ~Output() = default;

  template <typename... Args>
  void print(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(buffer_), format, std::forward<Args>(args)...);
    if (buffer_.size() >= kFlushBytes) flush();
  }
  void write(std::string_view text) {
    buffer_.append(text.data(), text.data() + text.size());
    if (buffer_.size() >= kFlushBytes) flush();
  }
  // Throws OutputClosed, or UserError when the output cannot take it (disk full).
  void flush();

 private:
  static constexpr std::size_t kFlushBytes = 64 * 1024;
  fmt::memory_buffer buffer_;
};

}  // namespace alloctape::cli

// A live line on stderr for long work: what, how far, how fast, how long still. Silent when stderr
// is no terminal. Thread safety: one thread.
#pragma once

#include <cstdint>
#include <string>

namespace alloctape::cli {

class Progress {
 public:
  // `unit` as in "events"; total 0 = unknown.
  Progress(std::string what, std::string unit, std::uint64_t total);
  ~Progress();                         // clears the line
  void update(std::uint64_t done);     // cheap: redraws at most ten times a second
  void note(const std::string& text);  // replaces the figures with a text of the caller's
  void finish();

 private:
  std::string what_, unit_;
  std::uint64_t total_ = 0, last_draw_ns_ = 0, start_ns_ = 0;
  bool terminal_ = false, drawn_ = false;
};

bool stdout_is_terminal();
bool stderr_is_terminal();
// "warning: TEXT" on stderr.
void warn(const std::string& text);

}  // namespace alloctape::cli

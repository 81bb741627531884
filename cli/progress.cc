#include "cli/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <utility>

#include "cli/units.h"

namespace alloctape::cli {
namespace {

constexpr std::uint64_t kRedrawNs = 100'000'000;
constexpr char kClearLine[] = "\r\033[K";

// Whether a progress line stands on the terminal now, so that a warning does not run into it.
bool g_line_drawn = false;

std::uint64_t now_ns() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return static_cast<std::uint64_t>(ts.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(ts.tv_nsec);
}

bool is_terminal(int fd) {
  const char* term = std::getenv("TERM");
  return isatty(fd) == 1 && term != nullptr && std::strcmp(term, "dumb") != 0;
}

void draw(std::string text) {
  winsize size{};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
  const std::size_t columns = known ? size.ws_col : 80;
  if (text.size() >= columns) text.resize(columns - 1);
  fmt::print(stderr, "{}{}", kClearLine, text);
  std::fflush(stderr);
  g_line_drawn = true;
}

void clear() {
  if (!g_line_drawn) return;
  std::fputs(kClearLine, stderr);
  std::fflush(stderr);
  g_line_drawn = false;
}

}  // namespace

Progress::Progress(std::string what, std::string unit, std::uint64_t total)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(total),
      start_ns_(now_ns()),
      terminal_(stderr_is_terminal()) {}

Progress::~Progress() { finish(); }

void Progress::update(std::uint64_t done) {
  if (!terminal_) return;
  const std::uint64_t now = now_ns();
  if (now - last_draw_ns_ < kRedrawNs) return;
  last_draw_ns_ = now;
  const double seconds = static_cast<double>(now - start_ns_) / 1e9;
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  std::string text = fmt::format("{}: {} {}", what_, count(done), unit_);
  if (total_ > 0) {
    const double fraction = std::min(1.0, static_cast<double>(done) / static_cast<double>(total_));
    text += fmt::format("  {}", percent(fraction));
  }
  text += fmt::format("  {}/s", count(static_cast<std::uint64_t>(rate)));
  // In the first half second the rate says little about the rest.
  if (total_ > done && rate > 0 && seconds > 0.5) {
    text += "  " + duration_ns(static_cast<double>(total_ - done) / rate * 1e9) + " left";
  }
  draw(std::move(text));
  drawn_ = true;
}

void Progress::note(const std::string& text) {
  if (!terminal_) return;
  const std::uint64_t now = now_ns();
  if (now - last_draw_ns_ < kRedrawNs) return;
  last_draw_ns_ = now;
  draw(what_.empty() ? text : what_ + ": " + text);
  drawn_ = true;
}

void Progress::finish() {
  if (drawn_) clear();
  drawn_ = false;
}

bool stdout_is_terminal() { return is_terminal(STDOUT_FILENO); }
bool stderr_is_terminal() { return is_terminal(STDERR_FILENO); }

void warn(const std::string& text) {
  clear();
  fmt::print(stderr, "warning: {}\n", text);
}

}  // namespace alloctape::cli

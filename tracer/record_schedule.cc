#include "tracer/record_schedule.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <utility>

#include "tracer/image_control.h"
#include "tracer/live_trace.h"
#include "tracer/ring_snapshot.h"

namespace alloctape::tracer {

using wire::ControlState;

RecordSchedule::RecordSchedule(const RecordOptions& options, RecordSession& session)
    : session_(session),
      delay_ns_(options.delay_ns),
      end_ns_(options.duration_ns == 0 ? 0 : options.delay_ns + options.duration_ns),
      on_rss_bytes_(options.on_rss_bytes),
      state_(options.paused || options.delay_ns != 0 ? ControlState::kPaused
                                                     : ControlState::kRecord) {
  session_.set_initial_state(state_);
}

void RecordSchedule::step(const std::vector<Image>& images, std::uint64_t elapsed_ns) {
  if (delay_ns_ != 0 && elapsed_ns >= delay_ns_) {
    delay_ns_ = 0;
    command_all(images, ControlState::kRecord);
  }
  if (end_ns_ != 0 && elapsed_ns >= end_ns_) {
    end_ns_ = 0;
    command_all(images, ControlState::kStopped);
  }
  // An image may have asked for its initial state before a command, and registered after it.
  const std::vector<std::size_t> waiting = std::exchange(not_ready_, {});
  for (const std::size_t i : waiting) {
    if (images[i].end == ImageEnd::kRunning && !command(images[i], state_, true)) {
      not_ready_.push_back(i);
    }
  }
  for (; seen_ < images.size(); ++seen_) {
    if (!command(images[seen_], state_, true)) not_ready_.push_back(seen_);
  }
  if (on_rss_bytes_ != 0) save_large(images);
}

void RecordSchedule::command_all(const std::vector<Image>& images, ControlState state) {
  // First the session: so an image that starts meanwhile is either in the list or told so.
  session_.set_initial_state(state);
  state_ = state;
  not_ready_.clear();
  for (seen_ = 0; seen_ < images.size(); ++seen_) {
    const Image& image = images[seen_];
    if (image.end != ImageEnd::kRunning || !image.readable) continue;
    if (!command(image, state, false)) not_ready_.push_back(seen_);
  }
}

bool RecordSchedule::command(const Image& image, ControlState state, bool only_new) {
  if (image.end != ImageEnd::kRunning || !image.readable) return true;
  try {
    const ImageControl control = ImageControl::of_trace(image.trace_path);
    const std::uint32_t word = __atomic_load_n(&control.header().control, __ATOMIC_RELAXED);
    if (wire::control_state(word) == ControlState::kNone) return false;
    // One that was commanded by `ctl` or by itself stays as it was told.
    if (!only_new || wire::control_generation(word) == 0) set_control(&control.header(), state);
  } catch (const ControlError&) {
    // Its trace is gone: so is what there was to steer. The monitor tells.
  }
  return true;
}

void RecordSchedule::save_large(const std::vector<Image>& images) {
  saved_.resize(images.size());
  for (std::size_t i = 0; i < images.size(); ++i) {
    const Image& image = images[i];
    if (saved_[i] || image.end != ImageEnd::kRunning || image.anon_bytes < on_rss_bytes_) continue;
    saved_[i] = true;
    const int fd = open(image.trace_path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) continue;
    try {
      const RingSnapshot copy = save_ring(fd, snapshot_path(image.trace_path));
      dumps_.push_back({image.pid, copy.path, image.anon_bytes, copy.events});
    } catch (const ControlError& error) {
      warnings_.push_back(
          fmt::format("the ring of pid {} was not saved: {}", image.pid, error.what));
    }
    close(fd);
  }
}

}  // namespace alloctape::tracer

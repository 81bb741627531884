// Follows the process images of a recording from outside: notices them in the session, samples
// their memory, tells live figures, and appends the samples to each trace when its image ends.
//
// Thread safety: one thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "formats/wire/trace_layout.h"
#include "tracer/record_session.h"

namespace alloctape::tracer {

enum class ImageEnd {
  kRunning,  // still alive when the recording was left
  kGone,     // the process ended
  kExeced,   // the process went on as another program
};

// One process image. Its trace is written by the image itself; here is what can be seen of it.
struct Image {
  std::uint32_t pid = 0;
  std::string trace_path;
  ImageEnd end = ImageEnd::kRunning;
  std::string went_on_as;  // kExeced, where it was noticed in time: the program it became
  bool readable = false;              // the trace could be opened and its header is one
  std::uint64_t peak_anon_bytes = 0;  // 0 = never sampled
  std::uint64_t anon_bytes = 0;       // while it runs: at the latest sample
  std::uint64_t samples = 0;          // as appended to the trace
};

class ImageMonitor {
 public:
  explicit ImageMonitor(RecordSession& session) : session_(session) {}
  ~ImageMonitor();
  ImageMonitor(const ImageMonitor&) = delete;
  ImageMonitor& operator=(const ImageMonitor&) = delete;

  // Takes in new images and the samples that are due. To be called every kPollNs or so.
  void poll();
  // Ends the following: appends all samples that are left and, where a trace does not know how fast
  // its clock runs, tells it.
  void finish(std::uint64_t ticks_per_second);

  struct Live {
    std::uint64_t bytes = 0;       // of all traces so far
    std::uint64_t anon_bytes = 0;  // resident now, of the images that are alive
    std::size_t alive = 0;
  };
  Live live() const;
  const std::vector<Image>& images() const { return images_; }
  // What went wrong, in sentences for the user.
  const std::vector<std::string>& warnings() const { return warnings_; }

  static constexpr std::uint64_t kPollNs = 10'000'000;

 private:
  // What is open while an image is followed.
  struct Follow {
    std::size_t image = 0;  // index in images_
    wire::TraceHeader* header = nullptr;
    int statm = -1;
    dev_t exe_device = 0;
    ino_t exe_inode = 0;
    std::uint64_t interval_ns = kPollNs, next_ns = 0, next_exe_check_ns = 0;
    std::uint64_t last_anon_bytes = 0;
    std::vector<wire::RssSample> samples;
  };

  void poll_images(bool all);  // all: also those whose sample is not due yet
  void take_in(const RecordSession::Registration& registration, std::uint64_t now_ns);
  // False when the image is no more.
  bool sample(Follow& follow, std::uint64_t now_ns);
  bool still_the_program(Follow& follow, std::uint64_t now_ns);
  void end(Follow& follow, ImageEnd how);
  void append_samples(Follow& follow);

  RecordSession& session_;
  std::vector<Image> images_;
  std::vector<std::string> warnings_;
  std::map<std::uint32_t, Follow> follows_;  // by pid
  std::uint64_t ended_bytes_ = 0;            // of the traces whose images ended
};

}  // namespace alloctape::tracer

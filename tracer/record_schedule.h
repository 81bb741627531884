// What `record` does to the images by itself while they run: starts them after --delay, stops them
// after --duration, saves their rings when they pass --on-rss.
//
// Thread safety: one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "formats/wire/trace_layout.h"
#include "tracer/image_monitor.h"
#include "tracer/record_options.h"
#include "tracer/record_session.h"

namespace alloctape::tracer {

class RecordSchedule {
 public:
  // Before the program starts: tells the session how images are to begin.
  RecordSchedule(const RecordOptions& options, RecordSession& session);

  // To be called often, after monitor.poll(). `elapsed_ns`: since the program started.
  void step(const std::vector<Image>& images, std::uint64_t elapsed_ns);

  struct Dump {
    std::uint32_t pid;
    std::string path;
    std::uint64_t anon_bytes;  // that made it necessary
    std::uint64_t events;
  };
  const std::vector<Dump>& dumps() const { return dumps_; }
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  void command_all(const std::vector<Image>& images, wire::ControlState state);
  // False: the image is not ready for commands yet.
  bool command(const Image& image, wire::ControlState state, bool only_new);
  void save_large(const std::vector<Image>& images);

  RecordSession& session_;
  std::uint64_t delay_ns_, end_ns_, on_rss_bytes_;  // 0 = never
  wire::ControlState state_;                        // that images are to be in
  std::size_t seen_ = 0;                            // images below this have been told
  std::vector<std::size_t> not_ready_;
  std::vector<bool> saved_;  // by image
  std::vector<Dump> dumps_;
  std::vector<std::string> warnings_;
};

}  // namespace alloctape::tracer

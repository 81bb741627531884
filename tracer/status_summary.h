// How the recording of a process image goes, told from outside while it goes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "tracer/image_control.h"

namespace alloctape::tracer {

struct ImageStatus {
  pid_t pid = 0;
  std::string program, trace_path;
  std::string state;                       // recording, paused, stopped, limit, ending
  int stop_errno = 0;                      // the limit that ended it; 0 = none
  std::uint32_t commands = 0;              // given so far
  std::uint64_t events = 0;                // in the file and in buffers
  std::uint64_t file_bytes = 0;            // of the file, what was given back not counted
  std::uint64_t dropped_events = 0;        // after a limit was hit
  std::uint32_t streams = 0, threads = 0;  // threads: that ever made a call while recording
  std::uint64_t max_bytes = 0;             // 0 = no limit
  struct Ring {
    std::uint64_t bytes = 0, used_bytes = 0;
    std::uint64_t overwritten_events = 0, overwritten_blocks = 0;
  };
  std::optional<Ring> ring;
};

ImageStatus read_status(const ImageControl& image);
std::string to_text(const ImageStatus& status);
nlohmann::ordered_json to_json(const ImageStatus& status);

}  // namespace alloctape::tracer

// The session file: where every process image that starts a trace leaves its name, so that `record`
// can follow it. Layout: formats/wire/session.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/wire/session.h"
#include "formats/wire/trace_layout.h"

namespace alloctape::tracer {

class RecordSession {
 public:
  // Creates the file (mode 0600) in $TMPDIR or /tmp. Throws cli::UserError when it cannot.
  RecordSession();
  ~RecordSession();  // unmaps and unlinks
  RecordSession(const RecordSession&) = delete;
  RecordSession& operator=(const RecordSession&) = delete;

  const std::string& path() const { return path_; }
  void set_ticks_per_second(std::uint64_t rate);
  // The state in which images start from now on.
  void set_initial_state(wire::ControlState state);

  struct Registration {
    std::uint32_t slot;
    std::uint32_t pid;
    std::string trace_path;
  };
  // The images that have registered since the last call, in order of their slots.
  std::vector<Registration> take_new();
  // Images that found no slot left: traced, but not followed.
  std::uint32_t unregistered() const;

 private:
  wire::SessionHeader& header() const;
  wire::SessionSlot& slot(std::uint32_t index) const;

  std::string path_;
  void* map_ = nullptr;
  std::uint32_t seen_ = 0;              // slots below this have been looked at
  std::vector<std::uint32_t> pending_;  // claimed, but not yet ready when looked at
};

}  // namespace alloctape::tracer

// Control of a process image from outside, through the header page of its trace, which it has
// mapped: no signal, no descriptor, nothing that the program could notice. What a command does
// inside is told in formats/wire/trace_layout.h, "control word".
//
// Thread safety: one thread for each object; any number of objects, also in different processes,
// may command the same image.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "formats/wire/trace_layout.h"

namespace alloctape::tracer {

// Why a command could not be given, and what to do about it.
struct ControlError {
  enum class Kind { kNoProcess, kNoPermission, kNotTraced, kEnded, kFailed };
  Kind kind = Kind::kFailed;
  std::string what, remedy;
};

class ImageControl {
 public:
  // The images of a process that are being traced (one, unless it holds the tracer more than once).
  // Never empty. Throws ControlError.
  static std::vector<ImageControl> of_process(pid_t pid);

  // The image that writes this trace now, for one who knows its name. Throws ControlError.
  static ImageControl of_trace(const std::string& path);

  ImageControl(ImageControl&& other) noexcept;
  ImageControl& operator=(ImageControl&& other) noexcept;
  ~ImageControl();

  pid_t pid() const { return pid_; }
  const std::string& path() const { return path_; }  // as the traced process sees it
  int fd() const { return fd_; }                     // open for reading and writing
  wire::TraceHeader& header() const { return *header_; }

  // What the image was last told. A thread obeys at its next call.
  wire::ControlState commanded() const;
  // Returns false when that was the state already. Throws ControlError where the recording ended by
  // itself (a limit) and is told to go on.
  bool command(wire::ControlState state) const;
  // What was recorded so far counts no more. Takes some milliseconds.
  void reset() const;
  // All that was recorded before the call is on the disk when it returns.
  void sync() const;
  // REQUIRES: text.size() <= wire::kMaxMarkBytes
  void mark(const std::string& text) const;

  // Now, in the unit of the trace's stamps.
  std::uint64_t now_stamp() const;

 private:
  ImageControl() = default;
  static ImageControl map(int fd, pid_t pid, std::string path);

  pid_t pid_ = 0;
  std::string path_;
  int fd_ = -1;
  wire::TraceHeader* header_ = nullptr;
};

}  // namespace alloctape::tracer

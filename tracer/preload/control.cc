// What alloctape.h reaches. Commands act as `ctl` does from outside: on the control word, which
// each thread sees at its next call.
#include <errno.h>

#include "tracer/preload/file.h"
#include "tracer/preload/image.h"
#include "tracer/preload/law.h"
#include "tracer/preload/steering.h"
#include "tracer/preload/syscalls.h"

#include "tracer/preload/forbidden.h"

namespace alloctape::tracer {
namespace {

class ErrnoKept {
 public:
  ErrnoKept() : saved_(errno) {}
  ~ErrnoKept() { errno = saved_; }
  ErrnoKept(const ErrnoKept&) = delete;
  ErrnoKept& operator=(const ErrnoKept&) = delete;

 private:
  int saved_;
};

// Buffers that are being filled are pages of the file: syncing the file takes them along.
void sync_trace() {
  Image* image = ensure_image();
  if (!image || ensure_descriptor(image) < 0) return;
  sys::call(SYS_fdatasync, image->fd);
}

}  // namespace
}  // namespace alloctape::tracer

using namespace alloctape;

ALLOCTAPE_EXPORT void alloctape_init() {
  tracer::ErrnoKept errno_kept;
  tracer::ensure_image();
}
ALLOCTAPE_EXPORT void alloctape_start() {
  tracer::ErrnoKept errno_kept;
  tracer::command(wire::ControlState::kRecord);
}
ALLOCTAPE_EXPORT void alloctape_stop() {
  tracer::ErrnoKept errno_kept;
  tracer::command(wire::ControlState::kStopped);
  tracer::sync_trace();
}
ALLOCTAPE_EXPORT void alloctape_pause() {
  tracer::ErrnoKept errno_kept;
  tracer::command(wire::ControlState::kPaused);
}
ALLOCTAPE_EXPORT void alloctape_unpause() {
  tracer::ErrnoKept errno_kept;
  tracer::command(wire::ControlState::kRecord);
}
ALLOCTAPE_EXPORT void alloctape_sync() {
  tracer::ErrnoKept errno_kept;
  tracer::sync_trace();
}
ALLOCTAPE_EXPORT void alloctape_reset() {
  tracer::ErrnoKept errno_kept;
  tracer::reset_recording();
}
ALLOCTAPE_EXPORT void alloctape_mark(const char* text) {
  tracer::ErrnoKept errno_kept;
  tracer::mark(text);
}

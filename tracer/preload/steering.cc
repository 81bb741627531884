#include "tracer/preload/steering.h"

#include <errno.h>
#include <string.h>

#include "tracer/preload/file.h"
#include "tracer/preload/syscalls.h"

#include "tracer/preload/forbidden.h"

namespace alloctape::tracer {

bool image_records() { return wire::control_state(control_now()) == wire::ControlState::kRecord; }

Stream* resting_stream(Image* image) {
  Stream* s = image->resting;
  // Many threads may write the same values: each is right until the next command.
  const uint32_t word = control_now();
  if (wire::control_state(word) != wire::ControlState::kRecord) {
    __atomic_store_n(&s->seen, word, __ATOMIC_RELAXED);
    __atomic_store_n(&s->passes, word, __ATOMIC_RELAXED);
  }
  return s;
}

uint32_t initial_extras(Image* image) {
  uint32_t extras = (g_config.usable ? kExtraUsable : 0u) |
                    (g_config.latency ? kExtraLatency : 0u) |
                    (g_clock_mode != ClockMode::kTsc ? kExtraClock : 0u);
  const uint32_t word = control_now();
  if (image->header->ring_bytes || image->starts_late || wire::control_generation(word))
    extras |= kExtraLate;
  return extras;
}

void remember_blocks(Stream* s) {
  // A ring forgets acquires, so nothing may be taken as told.
  const Image* image = current_image();
  if (!image || image->header->ring_bytes) return;
  const size_t bytes = kSeenBlocks * sizeof *s->seen_blocks;
  if (!s->seen_blocks)
    s->seen_blocks = static_cast<const void**>(wiped_on_fork(bytes));
  else
    memset(s->seen_blocks, 0, bytes);
}

void obey(Stream* s) {
  Image* image = current_image();
  if (!image) return;
  const uint32_t word = control_now();
  const bool record = wire::control_state(word) == wire::ControlState::kRecord;
  if (s == image->resting) {
    resting_stream(image);
    return;
  }
  if (!((s->seen ^ word) &
        ~wire::kControlTicks)) {  // a tick: this call goes the slow way, with a stamp
    s->seen = word;
    settle(s);
    s->go = s->rest;
    return;
  }
  const int saved_errno = errno;
  enter(s);
  if (!record && s->mode == Mode::kActive) {
    put_event(s, CallEvent{.op = wire::Op::kPause}, stamp_now());
    if (s->mode == Mode::kActive) s->mode = Mode::kPaused;
  } else if (record && s->mode == Mode::kPaused) {
    s->mode = Mode::kActive;
    put_event(s, CallEvent{.op = wire::Op::kResume}, stamp_now());
  }
  // Whatever the command was, from here on blocks may go of which the trace has no beginning.
  s->extras |= kExtraLate;
  remember_blocks(s);
  s->seen = word;
  settle(s);
  leave(s);
  errno = saved_errno;
}

uint32_t command(wire::ControlState state) {
  Image* image = ensure_image();
  if (!image) return 0;
  uint32_t* control = &image->header->control;
  uint32_t old = __atomic_load_n(control, __ATOMIC_RELAXED), word;
  do {
    word =
        wire::control_word(wire::control_generation(old) + 1,
                           state == wire::ControlState::kNone ? wire::control_state(old) : state);
  } while (
      !__atomic_compare_exchange_n(control, &old, word, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return word;
}

void reset_recording() {
  Image* image = ensure_image();
  if (!image || !command(wire::ControlState::kNone)) return;
  // Calls that had passed their compare before the command end meanwhile; those few that do not are
  // told without the sizes of what they release.
  struct timespec pause = {0, 2'000'000};
  sys::call(SYS_nanosleep, sys::word(&pause), 0);
  __atomic_store_n(&image->header->reset_stamp, stamp_now(), __ATOMIC_RELAXED);
}

void mark(const char* text) {
  Image* image = ensure_image();
  if (!image || !text) return;
  size_t n = 0;
  while (n < wire::kMaxMarkBytes && text[n]) ++n;
  struct {
    wire::BlockHeader header;
    wire::MarkEntry entry;
  } block{};
  block.header.magic = wire::kBlockMagic;
  block.header.type = wire::BlockType::kMark;
  block.header.payload_bytes = sizeof block.entry + n;
  block.header.first_stamp = block.entry.stamp = stamp_now();
  block.entry.tid = static_cast<uint32_t>(sys::gettid());
  block.entry.bytes = static_cast<uint32_t>(n);
  struct iovec parts[2] = {{&block, sizeof block}, {const_cast<char*>(text), n}};
  sys::SignalsBlocked signals;
  write_at(image, parts, 2, claim(image, sizeof block + n, wire::kBlockAlign));
}

}  // namespace alloctape::tracer

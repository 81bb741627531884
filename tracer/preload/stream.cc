#include "tracer/preload/stream.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>

#include "tracer/preload/file.h"
#include "tracer/preload/recorder.h"
#include "tracer/preload/syscalls.h"
#include "tracer/preload/forbidden.h"

namespace alloctape::tracer {

extern __thread const void* t_late_frame __attribute__((tls_model("initial-exec")));

namespace {

// Where the streams of threads without one point: never written to.
Stream g_unborn{};
Stream g_dead{.mode = Mode::kDead};
__thread uint32_t t_thread __attribute__((tls_model("initial-exec"))) = ~0u;

// The widest record, and one word that stays zero so that a scan of a full buffer ends.
constexpr size_t kMarginWords = wire::kMaxWideWords + 1;
constexpr size_t kStreamPoolBytes = 64 * 1024;

// The image's lock. All signals are blocked while it is held, so its owner always gets on; after a
// fork it is wiped along with the image.
class Locked {
 public:
  explicit Locked(Image* image) : image_(image) {
    while (__atomic_exchange_n(&image_->lock, 1u, __ATOMIC_ACQUIRE)) sys::sched_yield();
  }
  ~Locked() { __atomic_store_n(&image_->lock, 0u, __ATOMIC_RELEASE); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  sys::SignalsBlocked signals_;
  Image* image_;
};

void stop_stream(Stream* s) { s->rest = Mode::kStopped; }

// Recording ends for the whole image; what is staged stays readable.
void stop_image(Image* image, long error) {
  wire::TraceState expected = __atomic_load_n(&image->header->state, __ATOMIC_RELAXED);
  while (expected != wire::TraceState::kStopped) {
    if (__atomic_compare_exchange_n(&image->header->state, &expected, wire::TraceState::kStopped,
                                    false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
      __atomic_store_n(&image->header->stop_errno, static_cast<uint32_t>(-error), __ATOMIC_RELAXED);
      complain("recording stopped, further events are counted but not recorded", error);
      return;
    }
  }
}
bool stopped(const Image* image) {
  return __atomic_load_n(&image->header->state, __ATOMIC_RELAXED) == wire::TraceState::kStopped;
}

void set_position(Stream* s) {
  s->words = reinterpret_cast<uint64_t*>(s->staging + 1);
  s->position = s->words;
  s->end = s->words + (s->staging_bytes - sizeof(wire::BlockHeader)) / 8 - kMarginWords;
  for (uint64_t& w : s->window) w = wire::kNoWindow;
}

// Makes an extent the stream's staging buffer, for block `sequence`. The state goes last: until then
// a reader ignores the extent.
void adopt(Stream* s, uint32_t index, wire::BlockHeader* extent, uint64_t bytes, uint64_t sequence) {
  extent->magic = wire::kBlockMagic;
  extent->type = wire::BlockType::kStaging;
  extent->payload_bytes = bytes - sizeof(wire::BlockHeader);
  extent->stream = index;
  extent->thread = s->thread;
  extent->sequence = sequence;
  extent->first_stamp = s->last_stamp;
  s->staging = extent;
  s->staging_bytes = bytes;
  set_position(s);
  __atomic_store_n(&extent->staging_state, wire::StagingState::kActive, __ATOMIC_RELEASE);
}

// REQUIRES: the image's lock.
long new_stream(Image* image, Stream** result) {
  if (image->pool_left == 0) {
    image->pool = static_cast<Stream*>(wiped_on_fork(kStreamPoolBytes));
    if (!image->pool) return -ENOMEM;
    image->pool_left = kStreamPoolBytes / sizeof(Stream);
  }
  void* extent;
  const long r = map_extent(image, kSmallStaging, &extent);
  if (r < 0) return r;
  Stream* s = image->pool++;
  --image->pool_left;
  s->rest = Mode::kActive;
  s->mode = Mode::kBusy;
  s->dense = image->dense;
  s->last_stamp = stamp_now();
  s->staging = nullptr;
  adopt(s, __atomic_fetch_add(&image->header->next_stream, 1, __ATOMIC_RELAXED),
        static_cast<wire::BlockHeader*>(extent), kSmallStaging, 0);
  s->next = image->streams;
  image->streams = s;
  *result = s;
  return 0;
}

// The second thread of an image makes every stamp count from here on.
// REQUIRES: the image's lock.
void stamp_every_event(Image* image) {
  if (image->dense) return;
  image->dense = 1;
  for (Stream* s = image->streams; s; s = s->next)
    __atomic_store_n(&s->dense, 1u, __ATOMIC_SEQ_CST);
}

void keep_anchor(Image* image) {
  wire::TraceHeader* h = image->header;
  if (__atomic_exchange_n(&h->anchor_lock, 1u, __ATOMIC_ACQUIRE)) return;
  h->last_ticks = raw_ticks();
  h->last_monotonic_ns = monotonic_ns();
  __atomic_store_n(&h->anchor_lock, 0u, __ATOMIC_RELEASE);
}

// A full small extent makes room for a large one; failing that, the small one serves on.
void grow(Image* image, Stream* s) {
  wire::BlockHeader* old = s->staging;
  void* extent;
  if (map_extent(image, kLargeStaging, &extent) < 0) return;
  auto* staging = static_cast<wire::BlockHeader*>(extent);
  staging->dropped_events = old->dropped_events;
  adopt(s, old->stream, staging, kLargeStaging, old->sequence + 1);
  old->dropped_events = 0;
  __atomic_store_n(&old->staging_state, wire::StagingState::kFree, __ATOMIC_RELEASE);
  sys::munmap(old, kSmallStaging);
}

}  // namespace

__thread Stream* t_stream __attribute__((tls_model("initial-exec"))) = &g_unborn;

void put_wide(Stream* s, const WideEvent& e, uint64_t stamp) {
  // Drawn in formats/wire/event_word.h; written back to front, the first word last.
  uint64_t fields[wire::kFieldCountKnown];
  unsigned n = 0, mask = e.fields;
  uint64_t delta = stamp - s->last_stamp;
  if (delta >> wire::kWideTimeBits || (e.path & wire::kPathLate)) {
    mask |= wire::kFieldStamp;
    delta = 0;
  }
  const uint64_t values[wire::kFieldCountKnown] = {stamp,   e.release_stamp, e.pointer, e.old_pointer,
                                                   e.size,  e.count,         e.alignment, e.thread,
                                                   e.tid,   e.value};
  for (int i = 0; i < wire::kFieldCountKnown; ++i)
    if (mask >> i & 1) fields[n++] = values[i];
  uint64_t* at = s->position;
  for (unsigned i = n; i > 0; --i) at[i] = fields[i - 1];
  s->last_stamp = stamp;
  if ((e.fields & wire::kFieldPointer) && e.pointer &&
      !(e.path & (wire::kPathMapped | wire::kPathFailed | wire::kPathBootstrap | wire::kPathLate))) {
    s->window[wire::window_slot(e.pointer)] =
        wire::window_tag(e.pointer, e.path & wire::kPathOtherArena);
  }
  publish(at, wire::wide_word(e.op, n + 1, e.path, mask, delta));
  advance(s, n + 1);
}

uint64_t spend_time(Stream* s, uint64_t delta) {
  if (delta >> wire::kTimeBits == 0) return delta;
  s->last_stamp += delta;
  publish(s->position, wire::time_word(delta));
  ++s->position;  // the margin has room for what follows; a flush here would part them
  return 0;
}

bool put_scaled(Stream* s, wire::Kind kind, uint64_t pointer, uint64_t size, bool other_arena,
                uint64_t odd, uint64_t stamp) {
  const uint64_t delta = stamp - s->last_stamp;
  const unsigned slot = wire::window_slot(pointer);
  if (odd || delta >> wire::kTimeWordBits || !wire::size_has_code(size) ||
      s->window[slot] != wire::window_tag(pointer, other_arena) ||
      (pointer & ((1u << wire::kOffsetShift) - 1)))
    return false;
  const uint64_t rest = spend_time(s, delta);
  s->last_stamp = stamp;
  publish(s->position,
          wire::compact_word(kind, rest, wire::encode_size(size), slot, pointer));
  advance(s, 1);
  return true;
}

void flush(Stream* s) {
  Image* image = current_image();
  const uint64_t bytes = static_cast<uint64_t>(s->position - s->words) * 8;
  if (!image || stopped(image)) {
    stop_stream(s);
    return;
  }
  wire::BlockHeader block = *s->staging;
  block.type = wire::BlockType::kEvents;
  block.staging_state = wire::StagingState::kFree;
  block.dropped_events = 0;
  block.payload_bytes = bytes;
  const uint64_t offset = claim(image, sizeof block + bytes, wire::kBlockAlign);
  struct iovec parts[2] = {{&block, sizeof block}, {s->words, bytes}};
  const long r = write_at(image, parts, 2, offset);
  if (r < 0) {
    stop_stream(s);
    stop_image(image, r);
    return;
  }
  keep_anchor(image);
  // The order that keeps every event readable exactly once, whenever the process dies: the block is
  // in the file; the extent steps aside; its words are zeroed; it comes back as the next block.
  __atomic_store_n(&s->staging->staging_state, wire::StagingState::kFlushed, __ATOMIC_RELEASE);
  if (s->staging_bytes == kSmallStaging) {
    grow(image, s);
    if (s->staging_bytes != kSmallStaging) return;
  }
  memset(s->words, 0, bytes);
  s->staging->thread = s->thread;
  s->staging->first_stamp = s->last_stamp;
  s->staging->sequence = block.sequence + 1;
  set_position(s);
  __atomic_store_n(&s->staging->staging_state, wire::StagingState::kActive, __ATOMIC_RELEASE);
}

namespace {

// The key whose destructor is how a thread's end is noticed. It is put back until the last round of
// destructors, so that other destructors' events still find the stream.
pthread_key_t g_key;
bool g_have_key;

void on_thread_exit(void* round) {
  const uintptr_t r = reinterpret_cast<uintptr_t>(round);
  if (r < PTHREAD_DESTRUCTOR_ITERATIONS) {
    pthread_setspecific(g_key, reinterpret_cast<void*>(r + 1));
    return;
  }
  end_thread();
}

void write_thread_start(Stream* s) {
  WideEvent e{.op = wire::Op::kThreadStart};
  e.fields = wire::kFieldThread | wire::kFieldTid;
  e.thread = s->thread;
  e.tid = static_cast<uint32_t>(sys::gettid());
  put_wide(s, e, stamp_now());
}

}  // namespace

void make_thread_key() {
  // Once for each loaded image: the key lives on in fork children.
  if (!g_have_key) g_have_key = pthread_key_create(&g_key, on_thread_exit) == 0;
}

Stream* acquire_stream() {
  Image* image = ensure_image();
  if (!image || stopped(image)) return nullptr;
  const int saved_errno = errno;
  Stream* s = nullptr;
  {
    Locked lock(image);
    const uint32_t thread = __atomic_fetch_add(&image->header->next_thread, 1, __ATOMIC_RELAXED);
    if (thread > 0) stamp_every_event(image);
    t_thread = thread;
    if (image->idle) {
      s = image->idle;
      image->idle = s->next_idle;
      s->thread = thread;
      // An extent without a word in it carries the thread in its header alone.
      if (s->position == s->words) s->staging->thread = thread;
    } else {
      const long r = new_stream(image, &s);
      if (r < 0) {
        stop_image(image, r);
        errno = saved_errno;
        return nullptr;
      }
      s->thread = thread;
      s->staging->thread = thread;
    }
    s->mode = Mode::kBusy;
    t_stream = s;
    write_thread_start(s);
  }
  if (g_have_key) pthread_setspecific(g_key, reinterpret_cast<void*>(uintptr_t{1}));
  compiler_barrier();
  s->mode = s->rest;
  errno = saved_errno;
  return s;
}

void end_thread() {
  Stream* s = t_stream;
  Image* image = current_image();
  if (s == &g_unborn || s == &g_dead || s->mode == Mode::kNone || !image) return;
  Locked lock(image);
  if (s->rest == Mode::kActive) {
    s->mode = Mode::kBusy;
    put_wide(s, WideEvent{.op = wire::Op::kThreadEnd}, stamp_now());
  }
  t_stream = &g_dead;
  s->next_idle = image->idle;
  image->idle = s;
}

void forget_stream() { t_stream = &g_unborn; }

void record_fork() {
  Stream* s;
  const Route r = route(false, nullptr, 0, __builtin_frame_address(0), &s);
  if (r == Route::kRecord && s->rest == Mode::kActive)
    record_slowly(r, s, WideEvent{.op = wire::Op::kFork});
}

Route route(bool acquires, const void* pointer, uint64_t size, const void* frame,
            Stream** result) {
  if (!real_functions_ready()) return Route::kForwardOnly;
  Stream* s = t_stream;
  *result = s;
  switch (s->mode) {
    case Mode::kActive:
    case Mode::kStopped:
      return Route::kRecord;
    case Mode::kForwarding: {
      const Forwarded& f = s->forwarded;
      if (frame >= f.frame) {  // stacks grow down: the operator's frame is gone
        WideEvent e{.op = f.op};
        if (f.acquires) {
          e.path = wire::kPathFailed;
          e.fields = wire::kFieldPointer | wire::kFieldSize;
          e.size = f.size;
          if (f.alignment) {
            e.fields |= wire::kFieldAlignment;
            e.alignment = f.alignment;
          }
        }
        const bool was_acquire = f.acquires;
        s->mode = s->rest;
        if (was_acquire) record_slowly(Route::kRecord, s, e);
        return Route::kRecord;
      }
      if (acquires && f.acquires && size >= f.size && size - f.size <= 4096 + f.alignment)
        return Route::kForwardOnly;
      if (!acquires && !f.acquires && pointer == f.pointer) return Route::kForwardOnly;
      return Route::kRecord;
    }
    case Mode::kBusy:
    case Mode::kDead:
      return t_late_frame && frame < t_late_frame ? Route::kForwardOnly : Route::kLate;
    case Mode::kNone:
      break;
  }
  s = acquire_stream();
  *result = s;
  if (s) return Route::kRecord;
  if (t_late_frame && frame < t_late_frame) return Route::kForwardOnly;
  return current_image() ? Route::kLate : Route::kForwardOnly;
}

void record_late(const WideEvent& event) {
  Image* image = ensure_image();
  if (!image) return;
  const Stream* mine = t_stream;
  const uint32_t thread = mine->mode == Mode::kBusy ? mine->thread : t_thread;
  Locked lock(image);
  bool recorded = false;
  if (!stopped(image)) {
    Stream* s = image->late;
    if (!s) {
      const long r = new_stream(image, &s);
      if (r < 0) {
        stop_image(image, r);
        s = nullptr;
      } else {
        s->thread = s->staging->thread = thread;
        image->late = s;
      }
    }
    if (s && s->rest == Mode::kActive) {
      stamp_every_event(image);  // more than one stream: order between them is by stamp
      WideEvent e = event;
      e.path |= wire::kPathLate;
      e.fields |= wire::kFieldThread;
      e.thread = thread;
      put_wide(s, e, stamp_now());
      recorded = true;
    }
  }
  if (!recorded) __atomic_fetch_add(&image->header->dropped_events, 1, __ATOMIC_RELAXED);
}

}  // namespace alloctape::tracer

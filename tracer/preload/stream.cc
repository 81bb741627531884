#include "tracer/preload/stream.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>

#include "tracer/preload/fast_path.h"
#include "tracer/preload/file.h"
#include "tracer/preload/steering.h"
#include "tracer/preload/syscalls.h"

#include "tracer/preload/forbidden.h"

namespace alloctape::tracer {

extern __thread const void* t_late_frame __attribute__((tls_model("initial-exec")));

namespace {

// Where the streams of threads without one point: never written to. Until the image has started the
// control word reads 0, so nothing that is compared with it may be 0.
Stream g_unborn{.go = kSlow, .rest = kSlow, .passes = kSlow, .late = kSlow};
Stream g_dead{.go = kSlow, .rest = kSlow, .passes = kSlow, .late = kSlow, .mode = Mode::kDead};
__thread uint32_t t_thread __attribute__((tls_model("initial-exec"))) = ~0u;

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

// REQUIRES: the image's lock.
Stream* fresh_stream(Image* image) {
  if (image->pool_left == 0) {
    image->pool = static_cast<Stream*>(wiped_on_fork(kStreamPoolBytes));
    if (!image->pool) return nullptr;
    image->pool_left = kStreamPoolBytes / sizeof(Stream);
  }
  --image->pool_left;
  return image->pool++;
}

// REQUIRES: the image's lock.
long new_stream(Image* image, Stream** result) {
  Stream* s = fresh_stream(image);
  if (!s) return -ENOMEM;
  void* extent;
  const long r = map_extent(image, kSmallStaging, &extent);
  if (r < 0) {
    --image->pool;  // as good as new
    ++image->pool_left;
    return r;
  }
  s->mode = Mode::kActive;
  s->seen = control_now();
  s->extras = initial_extras(image);
  if (s->extras & kExtraLate) remember_blocks(s);
  s->go = kBusy;
  settle(s);
  s->stamp_mask = image->dense ? 0 : image->owners ? kOwnedMask : kSparseMask;
  s->owners = image->owners;
  s->program_break = program_break();
  s->last_stamp = stamp_now();
  const uint32_t index = __atomic_fetch_add(&image->header->next_stream, 1, __ATOMIC_RELAXED);
  s->owner = index + 1 < kNobody ? index + 1 : kNobody;
  adopt_staging(s, index, static_cast<wire::BlockHeader*>(extent), kSmallStaging, 0);
  s->next = image->streams;
  image->streams = s;
  *result = s;
  return 0;
}

// From the image's second thread on, order is a matter of stamps: fast_path.h, "Stamps".
// REQUIRES: the image's lock.
void order_by_stamps(Image* image) {
  if (image->dense || image->owners) return;
  // Without ticks, events of a thread that sleeps much would show times long past.
  if (g_config.session[0] || g_config.owners)
    image->owners = static_cast<uint16_t*>(wiped_on_fork(kOwnerTableBytes));
  if (!image->owners) image->dense = 1;
  for (Stream* s = image->streams; s; s = s->next) {
    __atomic_store_n(&s->stamp_mask, image->owners ? kOwnedMask : 0u, __ATOMIC_RELAXED);
    __atomic_store_n(&s->owners, image->owners, __ATOMIC_SEQ_CST);
  }
}

}  // namespace

__thread Stream* t_stream asm("alloctape_stream")
    __attribute__((tls_model("initial-exec"))) = &g_unborn;

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
  CallEvent e{.op = wire::Op::kThreadStart};
  e.fields = wire::kFieldThread | wire::kFieldTid;
  e.thread = s->thread;
  e.tid = static_cast<uint32_t>(sys::gettid());
  const uint64_t now = stamp_now();
  put_event(s, e, now > s->last_stamp ? now : s->last_stamp);
}

}  // namespace

void make_thread_key() {
  // Once for each loaded image: the key lives on in fork children.
  if (!g_have_key) g_have_key = pthread_key_create(&g_key, on_thread_exit) == 0;
}

// While the image is paused, threads that were not born yet share a stand-in.
Stream* rest_until_command(Image* image) {
  if (!__atomic_load_n(&image->resting, __ATOMIC_ACQUIRE)) {
    Locked lock(image);
    if (!image->resting) {
      Stream* s = fresh_stream(image);
      if (!s) return nullptr;
      s->go = s->rest = kSlow;
      s->mode = Mode::kPaused;
      __atomic_store_n(&image->resting, s, __ATOMIC_RELEASE);
    }
  }
  return resting_stream(image);
}

Stream* acquire_stream() {
  Image* image = ensure_image();
  if (!image || stopped(image)) return nullptr;
  const int saved_errno = errno;
  if (!image_records()) {
    if (Stream* s = rest_until_command(image)) t_stream = s;
    errno = saved_errno;
    return nullptr;
  }
  Stream* s = nullptr;
  {
    Locked lock(image);
    const uint32_t thread = __atomic_fetch_add(&image->header->next_thread, 1, __ATOMIC_RELAXED);
    if (thread > 0) order_by_stamps(image);
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
    enter(s);
    t_stream = s;
    write_thread_start(s);
  }
  if (g_have_key) pthread_setspecific(g_key, reinterpret_cast<void*>(uintptr_t{1}));
  leave(s);
  errno = saved_errno;
  return s;
}

void end_thread() {
  Stream* s = t_stream;
  Image* image = current_image();
  if (s == &g_unborn || s == &g_dead || s->mode == Mode::kNone || !image || s == image->resting)
    return;
  Locked lock(image);
  enter(s);
  if (s->mode == Mode::kActive) {
    const uint64_t now = stamp_now();
    put_event(s, CallEvent{.op = wire::Op::kThreadEnd}, now > s->last_stamp ? now : s->last_stamp);
  }
  leave(s);
  t_stream = &g_dead;
  s->next_idle = image->idle;
  image->idle = s;
}

void forget_stream() { t_stream = &g_unborn; }

void record_fork() {
  Stream* s;
  if (route(false, nullptr, 0, __builtin_frame_address(0), &s) != Route::kRecord ||
      s->mode != Mode::kActive)
    return;
  enter(s);
  const uint64_t now = stamp_now();
  put_event(s, CallEvent{.op = wire::Op::kFork}, now > s->last_stamp ? now : s->last_stamp);
  leave(s);
}

uint64_t g_operator_reach = kUnknownReach;

namespace {

// A C++ operator that was left by an exception or longjmp is seen as a call that failed.
void note_left_operator(Stream* s) {
  const Forwarded f = s->forwarded;
  enter(s);
  s->forwarding = 0;
  settle(s);
  if (f.acquires && s->mode == Mode::kActive) {
    CallEvent e{.op = f.op};
    e.path = wire::kPathFailed;
    e.fields = wire::kFieldPointer | wire::kFieldSize;
    e.size = f.size;
    if (f.alignment) {
      e.fields |= wire::kFieldAlignment;
      e.alignment = f.alignment;
    }
    const uint64_t now = stamp_now();
    put_event(s, e, now > s->last_stamp ? now : s->last_stamp);
  }
  leave(s);
}

bool within(uint64_t address, const void* of, uint64_t reach) {
  return address - reinterpret_cast<uint64_t>(of) + reach <= 2 * reach;
}

// Whether the call whose frame that is was made by the operator in flight: it returns into the
// operator's code, or, after a jump at the operator's end, into ours.
bool called_by(const Forwarded& f, const void* frame) {
  constexpr uint64_t kOwnText = 256 * 1024;
  const uint64_t back = static_cast<const uint64_t*>(frame)[1];
  return !f.real || within(back, f.real, g_operator_reach) ||
         within(back, reinterpret_cast<const void*>(&note_left_operator), kOwnText);
}

Route without_stream(const void* frame) {
  return t_late_frame && frame < t_late_frame ? Route::kForwardOnly : Route::kLate;
}

}  // namespace

Route route(bool acquires, const void* pointer, uint64_t size, const void* frame, Stream** result) {
  if (!real_functions_ready()) return Route::kForwardOnly;
  Stream* s = t_stream;
  *result = s;
  if (s->mode == Mode::kDead) return without_stream(frame);
  if (s->mode != Mode::kNone) {
    if (busy(s)) return without_stream(frame);
    if (s->forwarding) {
      const Forwarded& f = s->forwarded;
      if (frame < f.frame) {  // stacks grow down
        if (acquires && f.acquires && size >= f.size && size - f.size <= 4096 + f.alignment &&
            called_by(f, frame))
          return Route::kForwardOnly;
        if (!acquires && !f.acquires && pointer == f.pointer) return Route::kForwardOnly;
        return s->mode == Mode::kPaused ? Route::kForwardOnly : Route::kRecord;
      }
      note_left_operator(s);
    }
    if (s->seen != control_now()) obey(s);
    if (s->mode != Mode::kPaused) return Route::kRecord;
    const Image* image = current_image();
    if (!image || s != image->resting || !image_records()) return Route::kForwardOnly;
  }
  s = acquire_stream();
  *result = s;
  if (s) return Route::kRecord;
  const Image* image = current_image();
  if (!image || t_stream == image->resting) return Route::kForwardOnly;
  return without_stream(frame);
}

void record_late(const CallEvent& event) {
  Image* image = ensure_image();
  if (!image || !image_records()) return;
  const Stream* mine = t_stream;
  const uint32_t thread = busy(mine) ? mine->thread : t_thread;
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
    if (s && s->mode == Mode::kActive) {
      order_by_stamps(image);  // more than one stream: order between them is by stamp
      CallEvent e = event;
      e.path |= wire::kPathLate;
      e.fields |= wire::kFieldThread;
      e.thread = thread;
      enter(s);
      put_event(s, e, claim(s, reinterpret_cast<const void*>(e.pointer), stamp_now));
      leave(s);
      recorded = true;
    }
  }
  if (!recorded) __atomic_fetch_add(&image->header->dropped_events, 1, __ATOMIC_RELAXED);
}

}  // namespace alloctape::tracer

// A stream's buffer: from words to blocks of the file.
#include <errno.h>
#include <string.h>

#include "tracer/preload/fast_path.h"
#include "tracer/preload/file.h"
#include "tracer/preload/stream.h"
#include "tracer/preload/syscalls.h"

#include "tracer/preload/forbidden.h"

namespace alloctape::tracer {

// Recording ends for the whole image; what is staged stays readable.
void stop_image(Image* image, long error) {
  wire::TraceState expected = __atomic_load_n(&image->header->state, __ATOMIC_RELAXED);
  while (expected != wire::TraceState::kStopped) {
    if (__atomic_compare_exchange_n(&image->header->state, &expected, wire::TraceState::kStopped,
                                    false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
      const bool ours = error == kMaxSizeReached;
      __atomic_store_n(&image->header->stop_errno, ours ? EFBIG : static_cast<uint32_t>(-error),
                       __ATOMIC_RELAXED);
      complain(ours
                   ? "recording stopped: the size set by --max-size is reached; further events are "
                     "counted but not recorded"
                   : "recording stopped, further events are counted but not recorded",
               ours ? 0 : error);
      return;
    }
  }
}
bool stopped(const Image* image) {
  return __atomic_load_n(&image->header->state, __ATOMIC_RELAXED) == wire::TraceState::kStopped;
}

namespace {

void stop_stream(Stream* s) {
  s->mode = Mode::kStopped;
  settle(s);
}

void set_position(Stream* s) {
  s->words = reinterpret_cast<uint64_t*>(s->staging + 1);
  s->position = s->words;
  s->end = s->words + (s->staging_bytes - sizeof(wire::BlockHeader)) / 8 - kMarginWords;
  s->extra_words = 0;
  s->window_base = kNoWindowBase;
  for (uint64_t& w : s->windows) w = kNoWindowBase;
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
  if (__atomic_load_n(&image->stays_small, __ATOMIC_RELAXED)) return;
  if (map_extent(image, kLargeStaging, &extent) < 0) {
    // Not tried again and again: each time space in the file has been allocated for nothing.
    __atomic_store_n(&image->stays_small, 1u, __ATOMIC_RELAXED);
    return;
  }
  auto* staging = static_cast<wire::BlockHeader*>(extent);
  staging->dropped_events = old->dropped_events;
  adopt_staging(s, old->stream, staging, kLargeStaging, old->sequence + 1);
  old->dropped_events = 0;
  __atomic_store_n(&old->staging_state, wire::StagingState::kFree, __ATOMIC_RELEASE);
  sys::munmap(old, kSmallStaging);
}

// Into the ring: the slot's old block stops being one before its bytes change, and the new one
// starts being one when they are all there. A slot that some other thread is still writing to (it
// would have to sleep through a whole turn of the ring) is passed over.
long write_to_ring(Image* image, const wire::BlockHeader& block, const uint64_t* words) {
  const uint64_t slots = image->header->ring_bytes / wire::kRingSlotBytes;
  for (uint64_t tries = 0; tries < slots; ++tries) {
    const uint64_t slot =
        __atomic_fetch_add(&image->header->ring_next, 1, __ATOMIC_RELAXED) % slots;
    if (__atomic_exchange_n(&image->ring_busy[slot], uint8_t{1}, __ATOMIC_ACQUIRE)) continue;
    const uint64_t offset = image->header->ring_offset + slot * wire::kRingSlotBytes;
    wire::BlockHeader old{};
    long r = read_at(image, &old, sizeof old, offset);
    if (r >= 0 && old.magic == wire::kBlockMagic) {
      static const wire::BlockHeader nothing{};
      struct iovec none = {const_cast<wire::BlockHeader*>(&nothing), sizeof nothing};
      r = write_at(image, &none, 1, offset);
      if (r >= 0) {
        __atomic_fetch_add(&image->header->overwritten_events, old.events, __ATOMIC_RELAXED);
        __atomic_fetch_add(&image->header->overwritten_blocks, 1, __ATOMIC_RELAXED);
      }
    }
    if (r >= 0) {
      struct iovec body = {const_cast<uint64_t*>(words), block.payload_bytes};
      r = write_at(image, &body, 1, offset + sizeof block);
    }
    if (r >= 0) {
      struct iovec head = {const_cast<wire::BlockHeader*>(&block), sizeof block};
      r = write_at(image, &head, 1, offset);
    }
    __atomic_store_n(&image->ring_busy[slot], uint8_t{0}, __ATOMIC_RELEASE);
    return r;
  }
  return -EBUSY;
}

long write_block(Image* image, const wire::BlockHeader& block, uint64_t* words) {
  if (image->header->ring_bytes) return write_to_ring(image, block, words);
  const uint64_t bytes = block.payload_bytes;
  // Whole pages of the file: writing to parts of them costs half as much again.
  const uint64_t offset = claim(image, sizeof block + bytes, image->header->page_bytes);
  struct iovec parts[2] = {{const_cast<wire::BlockHeader*>(&block), sizeof block}, {words, bytes}};
  return write_at(image, parts, 2, offset);
}

}  // namespace

// Makes an extent the stream's staging buffer, for block `sequence`. The state goes last: until
// then a reader ignores the extent.
void adopt_staging(Stream* s, uint32_t index, wire::BlockHeader* extent, uint64_t bytes,
                   uint64_t sequence) {
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

void flush(Stream* s) {
  Image* image = current_image();
  const uint64_t words = static_cast<uint64_t>(s->position - s->words);
  if (!image || stopped(image)) {
    stop_stream(s);
    return;
  }
  wire::BlockHeader block = *s->staging;
  block.type = wire::BlockType::kEvents;
  block.staging_state = wire::StagingState::kFree;
  block.dropped_events = 0;
  block.payload_bytes = words * 8;
  block.events = words - s->extra_words;
  const long r = write_block(image, block, s->words);
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
  memset(s->words, 0, words * 8);
  s->staging->thread = s->thread;
  s->staging->first_stamp = s->last_stamp;
  s->staging->sequence = block.sequence + 1;
  set_position(s);
  __atomic_store_n(&s->staging->staging_state, wire::StagingState::kActive, __ATOMIC_RELEASE);
}

}  // namespace alloctape::tracer

// The process image as the tracer sees it: its trace file, its header page, its streams.
//
// Life: none -> starting -> recording, or -> off when no trace can be had. The state lives in
// memory that the kernel wipes on fork (MADV_WIPEONFORK), so a child finds `none` and starts a
// trace of its own at its first event, whichever way it was forked; the parent's file mappings are
// not inherited (MADV_DONTFORK). A vfork child shares memory and heap with its parent: its calls
// are the parent's.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "formats/wire/trace_layout.h"
#include "tracer/preload/law.h"

namespace alloctape::tracer {

struct Stream;

enum class ImageState : uint32_t { kNone = 0, kStarting = 1, kRecording = 2, kOff = 3 };

struct Image {
  ImageState state;           // atomic; release when it becomes kRecording
  uint32_t lock;              // guards what follows; taken with all signals blocked
  wire::TraceHeader* header;  // shared mapping of the first page
  int fd;                     // the program may close it under us: see file.cc
  uint64_t device, inode;     // what fd must refer to
  Stream* streams;            // all, through Stream::next
  Stream* idle;               // left by ended threads, through Stream::next_idle
  Stream* late;               // shared by those that have no stream: see stream.h
  uint32_t dense;             // stamps on every event
  uint32_t stays_small;       // atomic; no large staging buffers: address space or file are full
  Stream* pool;               // stream records not yet in use
  size_t pool_left;
  Stream* resting;     // atomic; of threads without a stream while the image is paused
  uint8_t* ring_busy;  // one for each slot of the ring: somebody is writing to it
  uint16_t* owners;    // fast_path.h, "Stamps"; once a second thread has shown up
  uint32_t starts_late;
};

// The header page of the image's trace is mapped here, so that every call of the program finds the
// control word at a fixed place. A fork child sees its parent's page until its own trace starts; by
// then its streams have been wiped, and no control word is 0, so it takes the slow way.
ALLOCTAPE_HIDDEN extern unsigned char g_header_page[wire::kTraceHeaderBytes];
ALLOCTAPE_INLINE uint32_t control_now() {
  // Relaxed: a command takes effect at each thread's next look, and publishes nothing else.
  return __atomic_load_n(reinterpret_cast<const uint32_t*>(
                             g_header_page + __builtin_offsetof(wire::TraceHeader, control)),
                         __ATOMIC_RELAXED);
}

// The image of this process, started when need be. nullptr when it is off.
Image* ensure_image();
// The image if it is recording already; never starts it.
Image* current_image();
// The program's name and id in a line on stderr. Takes part of a sentence and an errno (0 = none).
void complain(const char* what, long error);
// Memory that a fork child sees as zeros. Whole pages; nullptr when there is none to be had.
void* wiped_on_fork(size_t bytes);

// Configuration, read once per process image; survives fork.
struct Config {
  bool ready;
  bool strict, dense, owners, follow, paused, usable, latency;
  uint64_t ring_bytes, max_bytes;  // 0 = none
  char output[4096];               // absolute pattern
  char session[1024];              // or empty
  char options[256];
};
extern Config g_config;
void read_config();
// Takes the tracer, and nothing else, out of LD_PRELOAD. For --no-follow.
void leave_environment();

}  // namespace alloctape::tracer

// The process image as the tracer sees it: its trace file, its header page, its streams.
//
// Life: none -> starting -> recording, or -> off when no trace can be had. The state lives in memory
// that the kernel wipes on fork (MADV_WIPEONFORK), so a child finds `none` and starts a trace of its
// own at its first event, whichever way it was forked; the parent's file mappings are not inherited
// (MADV_DONTFORK). A vfork child shares memory and heap with its parent: its calls are the parent's.
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
  uint32_t dense;             // stamps on every event: a second thread has shown up
  uint32_t reserved;
  Stream* pool;               // stream records not yet in use
  size_t pool_left;
};

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
  bool strict, dense, follow;
  char output[4096];   // absolute pattern
  char session[1024];  // or empty
  char options[64];
};
extern Config g_config;
void read_config();
// Takes the tracer, and nothing else, out of LD_PRELOAD. For --no-follow.
void leave_environment();

}  // namespace alloctape::tracer

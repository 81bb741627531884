// Commands: how a change of the control word (formats/wire/trace_layout.h) reaches each thread.
//
// Every call compares the word with what its thread's stream last saw. A difference takes the slow
// way, where the stream falls into line: so a command costs the program nothing until it comes,
// needs no signal, and takes effect at each thread's next call. A thread that makes no call
// meanwhile never knew of it, and missed nothing.
//
// Threads without a stream share, while the image is paused, one stand-in that forwards: a paused
// program makes no buffers.
#pragma once

#include "formats/wire/trace_layout.h"
#include "tracer/preload/law.h"
#include "tracer/preload/stream.h"

namespace alloctape::tracer {

// Brings a stream into line with the control word. REQUIRES: it is at rest, and this thread's.
void obey(Stream* s);
// Whether new streams record now.
bool image_records();
// The stand-in, for threads that have no stream while the image is paused.
Stream* resting_stream(Image* image);
// What a stream that is made now has to do beyond the fast path.
uint32_t initial_extras(Image* image);
void remember_blocks(Stream* s);  // memory for kExtraLate; without it, every block is told

// The same as `ctl` does, from inside. Returns the control word set, 0 without an image.
uint32_t command(wire::ControlState state);
// What was recorded so far counts no more.
void reset_recording();
void mark(const char* text);

}  // namespace alloctape::tracer

// What lies where in a trace file (.atrace). Specification: docs/formats/trace.md.
//
// Part of the tracee-safe ground floor: header-only, no library, no allocation, no exceptions.
// The header page is mapped shared by the tracee, by `record` and by readers of a live trace;
// fields marked "live" change while the program runs and are accessed with __atomic builtins.
#pragma once

#include <cstddef>
#include <cstdint>

namespace alloctape::wire {

inline constexpr char kTraceMagic[8] = {'\x89', 'A', 'T', 'R', 'A', 'C', 'E', '\n'};
inline constexpr std::uint16_t kTraceVersion = 1;
inline constexpr std::uint32_t kTraceHeaderBytes = 4096;

enum TraceFeature : std::uint64_t {
  // Until the second thread started, stamps were taken every few events only: times in between
  // repeat the last stamp. Order within a thread is never affected.
  kFeatureSparseStamps = 1 << 0,
  kFeatureStrictOrder = 1 << 1,  // stamps were taken with a serialising read
  kFeatureUsable = 1 << 2,       // acquires and resizes carry the usable size (Note::kUsable)
  kFeatureLatency = 1 << 3,      // calls carry their duration (Note::kDuration)
  kFeatureRing = 1 << 4,         // event blocks stand in a ring and overwrite one another
  kFeatureMaps = 1 << 5,         // the program's own calls of mmap and its family are recorded
  // With several threads, an event repeats its thread's last stamp where the same thread did the last
  // event on that address too: order between threads is not affected. At least every 64th event, and
  // the first after each tick of the control word, reads the clock.
  kFeatureOwnedStamps = 1 << 6,
};
// Features a reader must know to read the file at all.
enum TraceRequirement : std::uint64_t {
  kRequiresNotes = 1 << 0,   // note words other than time words may occur
  kRequiresPacked = 1 << 1,  // some event blocks are packed
};
inline constexpr std::uint64_t kTraceRequiredFeatures = kRequiresNotes | kRequiresPacked;

enum class ClockKind : std::uint32_t { kTsc = 1, kMonotonicNs = 2 };
enum class TraceState : std::uint32_t {
  kRecording = 1,
  kFinished = 2,  // the tracer's destructor ran (events may still follow)
  kStopped = 3,  // a limit was hit: stop_errno tells which; later events were counted, not recorded
};

// The control word: what `ctl`, `record` and alloctape.h steer an image by. Every call of the
// program compares it with what its thread last saw, so a change takes effect at each thread's next
// call.
//
//   31                      8 7     2 1     0
//  +-------------------------+-------+-------+
//  | generation: grows by    | tick  | state |
//  | one with every command  |   (6) |   (2) |
//  +-------------------------+-------+-------+
//
// The tick is no command: `record` moves it on every few milliseconds, and each thread's next event
// reads the clock, however seldom its events do so of themselves. 0 is no control word: the image is
// not recording (yet).
enum class ControlState : std::uint32_t { kNone = 0, kRecord = 1, kPaused = 2, kStopped = 3 };
inline constexpr std::uint32_t kControlTick = 1 << 2, kControlTicks = 63 << 2;
constexpr std::uint32_t control_word(std::uint32_t generation, ControlState state) {
  return generation << 8 | static_cast<std::uint32_t>(state);
}
constexpr ControlState control_state(std::uint32_t word) {
  return static_cast<ControlState>(word & 3);
}
constexpr std::uint32_t control_generation(std::uint32_t word) { return word >> 8; }
constexpr std::uint32_t control_ticked(std::uint32_t word) {
  return (word & ~kControlTicks) | ((word + kControlTick) & kControlTicks);
}

struct TraceHeader {
  char magic[8];
  std::uint16_t version;
  std::uint16_t reserved0;
  std::uint32_t header_bytes;       // where the first block starts; 4096
  std::uint64_t features;           // TraceFeature: may be ignored by readers
  std::uint64_t required_features;  // unknown bit here: the file cannot be read
  // Image identity.
  std::uint32_t pid;
  std::uint32_t parent_pid;
  std::uint64_t image_id;             // unique on this machine: hash of pid, start time, sequence
  std::uint64_t parent_image_id;      // the image that forked this one; 0 = none that was traced
  std::uint64_t process_start_ticks;  // field 22 of /proc/PID/stat: clock ticks since boot
  std::uint32_t image_sequence;  // 0 for the first image of this pid that found its name free, ...
  std::uint32_t page_bytes;
  // Clock. time_ns = (stamp << clock_shift) * 1e9 / ticks_per_second
  ClockKind clock_kind;
  std::uint32_t clock_shift;
  std::uint64_t ticks_per_second;  // 0 = unknown: derive it from the two anchors
  std::uint64_t start_ticks;       // raw ticks (not shifted) at the start of the trace
  std::uint64_t start_monotonic_ns;
  std::uint64_t start_realtime_ns;
  std::uint64_t ring_offset;  // 0 = no ring; else where its first slot starts
  std::uint64_t ring_bytes;   // of all slots; kRingSlotBytes each
  std::uint64_t max_bytes;    // 0 = no limit of the file's size but those of the system
  unsigned char reserved1[56];
  // Live: read by every call of the program, written by commands alone; a cache line of its own.
  alignas(64) std::uint32_t control;  // live: see control_word()
  std::uint32_t reserved2;
  std::uint64_t reset_stamp;  // live: events before it do not count (`ctl reset`); 0 = all do
  unsigned char reserved3[48];
  // Live, from byte 256 on; one writer group per cache line.
  alignas(64) std::uint64_t file_end;  // live: the next free byte; claimed with an atomic add
  std::uint64_t dropped_events;        // live: dropped where no stream could count them
  std::uint32_t next_stream;           // live
  std::uint32_t next_thread;           // live
  TraceState state;                    // live
  std::uint32_t stop_errno;            // live
  std::uint32_t reserved4;
  std::uint32_t anchor_lock;                    // live: guards the pair below against torn writes
  std::uint64_t last_ticks;                     // live: second calibration anchor
  alignas(64) std::uint64_t last_monotonic_ns;  // live
  std::uint64_t ring_next;           // live: slots of the ring taken so far, counted on and on
  std::uint64_t overwritten_events;  // live: lost because their slot was taken again
  std::uint64_t overwritten_blocks;  // live
  std::uint64_t released_bytes;      // live: of the file, given back by `record` once packed
  std::uint64_t index_offset;        // of the index block; 0 = none
  std::uint64_t reserved5;
};
static_assert(offsetof(TraceHeader, ring_offset) == 112);
static_assert(offsetof(TraceHeader, control) == 192);
static_assert(offsetof(TraceHeader, reset_stamp) == 200);
static_assert(offsetof(TraceHeader, file_end) == 256);
static_assert(offsetof(TraceHeader, last_monotonic_ns) == 320);
static_assert(sizeof(TraceHeader) == 384);

// Blocks start at multiples of 64 bytes. Between blocks there may be holes of zero bytes: readers
// step over them 64 bytes at a time until a magic number shows.
inline constexpr std::uint32_t kBlockMagic = 0x4b4c4241;  // "ABLK"
inline constexpr std::uint32_t kBlockAlign = 64;

enum class BlockType : std::uint16_t {
  kEvents = 1,    // a full buffer of event words
  kStaging = 2,   // a buffer that is (or was) being filled in place
  kMetadata = 3,  // strings about the image
  kRss = 4,       // RssSample[]
  kPacked = 5,    // event blocks of one stream as compressed columns
  kIndex = 6,     // IndexEntry[]: where the blocks are
  kMark = 7,      // MarkEntry and its text
};

// Life of a staging extent. kActive -> (block written) -> kFlushed -> (words zeroed) -> kActive
// with the next sequence number. A reader takes the words of an extent that is kActive, and then
// ignores an event block of the same stream and sequence, which may be half written.
enum class StagingState : std::uint32_t { kFree = 0, kActive = 1, kFlushed = 2 };

struct BlockHeader {
  std::uint32_t magic;
  BlockType type;
  std::uint16_t reserved0;
  std::uint64_t payload_bytes;  // bytes that follow this header (capacity, for staging)
  std::uint32_t stream;
  std::uint32_t thread;        // thread index at the first word
  std::uint64_t sequence;      // of this block within its stream, from 0
  std::uint64_t first_stamp;   // time at the first word: its delta counts from here
  StagingState staging_state;  // live; kFree in blocks of other types
  std::uint32_t blocks;        // packed: how many blocks, sequence and the following, it stands for
  std::uint64_t dropped_events;  // live, staging only: counted by this stream after a limit was hit
  std::uint64_t events;  // in event and packed blocks, meta events included; 0 = not counted
};
static_assert(sizeof(BlockHeader) == 64);

// A metadata block is a run of these, each followed by `bytes` bytes and padded with zeros to 8.
enum class MetadataKey : std::uint32_t {
  kEnd = 0,  // padding: nothing follows
  kExecutable = 1,
  kCommandLine = 2,  // arguments, each ended by a zero byte
  kWorkingDirectory = 3,
  kPreload = 4,           // LD_PRELOAD as the image saw it, without the tracer
  kAllocatorPath = 5,     // the object that provides the malloc underneath
  kAllocatorBuildId = 6,  // lower-case hex
  kTracerVersion = 7,
  kOptions = 8,     // capture options, "key=value" separated by spaces
  kHostKernel = 9,  // uname release
};
struct MetadataEntry {
  MetadataKey key;
  std::uint32_t bytes;
};
static_assert(sizeof(MetadataEntry) == 8);

// A user's mark, from inside (alloctape.h) or outside (`ctl mark`): followed by `bytes` of UTF-8.
struct MarkEntry {
  std::uint64_t stamp;
  std::uint32_t tid;    // the kernel's id of the thread that set it; 0 = set from outside
  std::uint32_t bytes;  // at most kMaxMarkBytes
};
static_assert(sizeof(MarkEntry) == 16);
inline constexpr std::uint32_t kMaxMarkBytes = 1024;

// Where one event or packed block is, in order of stream, then sequence.
struct IndexEntry {
  std::uint64_t offset;       // of its BlockHeader
  std::uint64_t first_stamp;  // times of its first and last event
  std::uint64_t last_stamp;
  std::uint64_t sequence;
  std::uint64_t events;
  std::uint64_t words;  // when unpacked
  std::uint32_t stream;
  std::uint32_t blocks;
  std::uint32_t first_thread, last_thread;  // smallest and largest thread index in it
};
static_assert(sizeof(IndexEntry) == 64);

// A ring holds whole event blocks, header included, one to a slot.
inline constexpr std::uint64_t kRingSlotBytes = 64 * 1024;

// Memory of the original process, sampled from outside.
struct RssSample {
  std::uint64_t ticks;       // raw ticks, same clock as the stamps (not shifted)
  std::uint64_t anon_bytes;  // resident anonymous memory (statm: resident - shared)
  std::uint64_t vm_bytes;    // virtual size
};
static_assert(sizeof(RssSample) == 24);

}  // namespace alloctape::wire

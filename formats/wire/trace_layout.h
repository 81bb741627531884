// What lies where in a trace file (.atrace). Specification: docs/formats/trace.md.
//
// Part of the tracee-safe ground floor: header-only, no library, no allocation, no exceptions.
// The header page is mapped shared by the tracee, by `record` and by readers of a live trace; fields
// marked "live" change while the program runs and are accessed with __atomic builtins.
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
};
// Features a reader must know to read the file at all. None so far.
inline constexpr std::uint64_t kTraceRequiredFeatures = 0;

enum class ClockKind : std::uint32_t { kTsc = 1, kMonotonicNs = 2 };
enum class TraceState : std::uint32_t {
  kRecording = 1,
  kFinished = 2,  // the tracer's destructor ran (events may still follow)
  kStopped = 3,   // a limit was hit: stop_errno tells which; later events were counted, not recorded
};

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
  std::uint64_t image_id;           // unique on this machine: hash of pid, start time, sequence
  std::uint64_t parent_image_id;    // the image that forked this one; 0 = none that was traced
  std::uint64_t process_start_ticks;  // field 22 of /proc/PID/stat: clock ticks since boot
  std::uint32_t image_sequence;     // 0 for the first image of this pid that found its name free, ...
  std::uint32_t page_bytes;
  // Clock. time_ns = (stamp << clock_shift) * 1e9 / ticks_per_second
  ClockKind clock_kind;
  std::uint32_t clock_shift;
  std::uint64_t ticks_per_second;   // 0 = unknown: derive it from the two anchors
  std::uint64_t start_ticks;        // raw ticks (not shifted) at the start of the trace
  std::uint64_t start_monotonic_ns;
  std::uint64_t start_realtime_ns;
  unsigned char reserved1[128];
  // Live, from byte 256 on; one writer group per cache line.
  alignas(64) std::uint64_t file_end;  // live: the next free byte; claimed with an atomic add
  std::uint64_t dropped_events;        // live: dropped where no stream could count them
  std::uint32_t next_stream;           // live
  std::uint32_t next_thread;           // live
  TraceState state;                    // live
  std::uint32_t stop_errno;            // live
  std::uint32_t control;               // live: reserved for `ctl`, 0 = record
  std::uint32_t anchor_lock;           // live: guards the pair below against torn writes
  std::uint64_t last_ticks;            // live: second calibration anchor
  alignas(64) std::uint64_t last_monotonic_ns;  // live
};
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
};

// Life of a staging extent. kActive -> (block written) -> kFlushed -> (words zeroed) -> kActive with
// the next sequence number. A reader takes the words of an extent that is kActive, and then ignores
// an event block of the same stream and sequence, which may be half written.
enum class StagingState : std::uint32_t { kFree = 0, kActive = 1, kFlushed = 2 };

struct BlockHeader {
  std::uint32_t magic;
  BlockType type;
  std::uint16_t reserved0;
  std::uint64_t payload_bytes;  // bytes that follow this header (capacity, for staging)
  std::uint32_t stream;
  std::uint32_t thread;         // thread index at the first word
  std::uint64_t sequence;       // of this block within its stream, from 0
  std::uint64_t first_stamp;    // time at the first word: its delta counts from here
  StagingState staging_state;   // live; kFree in blocks of other types
  std::uint32_t reserved1;
  std::uint64_t dropped_events; // live, staging only: counted by this stream after a limit was hit
  std::uint64_t reserved2;
};
static_assert(sizeof(BlockHeader) == 64);

// A metadata block is a run of these, each followed by `bytes` bytes and padded with zeros to 8.
enum class MetadataKey : std::uint32_t {
  kEnd = 0,  // padding: nothing follows
  kExecutable = 1,
  kCommandLine = 2,      // arguments, each ended by a zero byte
  kWorkingDirectory = 3,
  kPreload = 4,          // LD_PRELOAD as the image saw it, without the tracer
  kAllocatorPath = 5,    // the object that provides the malloc underneath
  kAllocatorBuildId = 6, // lower-case hex
  kTracerVersion = 7,
  kOptions = 8,          // capture options, "key=value" separated by spaces
  kHostKernel = 9,       // uname release
};
struct MetadataEntry {
  MetadataKey key;
  std::uint32_t bytes;
};
static_assert(sizeof(MetadataEntry) == 8);

// Memory of the original process, sampled from outside.
struct RssSample {
  std::uint64_t ticks;      // raw ticks, same clock as the stamps (not shifted)
  std::uint64_t anon_bytes; // resident anonymous memory (statm: resident - shared)
  std::uint64_t vm_bytes;   // virtual size
};
static_assert(sizeof(RssSample) == 24);

}  // namespace alloctape::wire

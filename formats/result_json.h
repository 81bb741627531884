// Results of replays, as C++ and as JSON. Specification: docs/formats/result.md.
//
// Times in ns, sizes in bytes. What could not be measured is nullopt, and null in JSON: never 0.
// Reading is strict about what is there (wrong types are errors) and lenient about what is not:
// keys of a later minor version are ignored, missing optional ones stay nullopt.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/result.h"

namespace alloctape::formats {

inline constexpr const char* kReplaySchema = "alloctape.replay/1";
inline constexpr const char* kCompareSchema = "alloctape.compare/1";

struct LatencySummary {
  std::uint64_t count = 0;
  double mean_ns = 0, p50_ns = 0, p90_ns = 0, p99_ns = 0, p999_ns = 0, p9999_ns = 0, max_ns = 0;
};

// Calls of one function on blocks of one class of sizes.
struct SizeLatency {
  std::uint64_t from_bytes = 0;
  std::optional<std::uint64_t> to_bytes;  // nullopt: no limit
  LatencySummary summary;
  // The histogram: buckets that are not empty, by their middles. Equal middles are equal buckets,
  // so that histograms of one run can be added up.
  std::vector<double> bucket_ns;
  std::vector<std::uint64_t> bucket_calls;
};

struct SlowCall {
  double ns = 0;
  std::string op;
  std::uint64_t op_index = 0;  // API calls of the lane before it
  std::uint64_t lane = 0;
  std::optional<std::uint64_t> thread;  // index in the trace
  std::uint64_t size_bytes = 0;         // requested; of a release: of the block that went
  std::uint64_t slot = 0;
  double at_ns = 0;                                    // since the start of the run
  std::optional<std::uint64_t> page_faults, switches;  // within the call
};

// Columns of equal length.
struct MemoryCurve {
  std::vector<std::uint64_t> ns;   // since the start of the run
  std::vector<std::uint64_t> ops;  // API calls so far; empty in curves over time
  std::vector<std::uint64_t> anon_bytes, vm_bytes;
  std::vector<std::uint64_t> live_bytes;    // empty in curves over time
  std::vector<std::uint64_t> usable_bytes;  // empty unless asked for
};

enum class RunStatus {
  kOk,
  kCrashed,    // a signal, or an exit before the workload's end
  kHung,       // no op finished for the timeout
  kCorrupted,  // complete, but --verify found the allocator at fault
  kFailed,     // never came to replay: could not be loaded, no memory for the harness, ...
};
const char* to_string(RunStatus status);

struct RunFailure {
  std::string message;  // one sentence with all of what follows
  std::string phase;    // "start", "set-up", "prologue", "run"
  std::optional<int> signal;
  std::string signal_name;
  std::optional<int> exit_code;
  std::optional<std::uint64_t> lane;
  std::optional<std::uint64_t> thread;  // index in the trace
  std::optional<std::uint64_t>
      op_index;    // of the op that ran, counted from 0 over the lane's API calls
  std::string op;  // its API function
  std::optional<std::uint64_t> slot, size_bytes;  // of that op, where it has them
  std::optional<std::uint64_t> address;           // the fault's
  std::vector<std::string> backtrace;             // innermost first
};

// A promise of the C standard that the allocator has broken.
struct VerifyFault {
  std::string kind;     // "overlap", "alignment", "not_zero", "usable_size", "contents",
                        // "moved_contents"
  std::string message;  // one sentence
  std::string op;       // empty: found at the end of the run
  std::optional<std::uint64_t> op_index, lane, thread;
  std::uint64_t slot = 0, size_bytes = 0, address = 0;
};
struct Verification {
  std::uint64_t faults = 0;             // all of them
  std::uint64_t blocks = 0, bytes = 0;  // whose contents were checked
  std::vector<VerifyFault> first;
};

// A closer look at memory, from smaps_rollup.
struct MemoryPoint {
  std::string moment;    // "growing", "end", "freed", "settled"
  std::uint64_t ns = 0;  // since the start of the run
  std::uint64_t live_bytes = 0;
  std::optional<std::uint64_t> usable_bytes;
  std::uint64_t anon_bytes = 0, lazy_free_bytes = 0, huge_bytes = 0, vm_bytes = 0;
};

// Anonymous memory, taken apart. The parts add up to anon_bytes unless `rest_bytes` is negative:
// blocks that were never touched take no memory.
struct MemoryParts {
  std::uint64_t anon_bytes = 0;
  std::uint64_t requested_bytes = 0;
  std::optional<std::uint64_t> slop_bytes;  // usable less requested; null: part of the rest
  std::uint64_t lazy_free_bytes = 0;
  std::uint64_t harness_bytes = 0;
  std::int64_t rest_bytes = 0;  // holes in live pages, retained free pages, metadata
  std::uint64_t mapped_bytes = 0;  // the program's own mappings, where they were written to
};

struct AllocatorView {
  std::string source;  // the function that was asked
  std::map<std::string, std::uint64_t> figures;
};

// System calls of a kind, from a pass of their own.
struct SyscallFigures {
  std::uint64_t count = 0, failed = 0;
  std::uint64_t total_ns = 0, max_ns = 0;
  std::uint64_t bytes = 0;  // lengths of those that did not fail; 0 for brk and futex
};
struct SyscallCounts {
  bool available = false;  // false: the process could not be traced
  double overhead_ns = 0;  // of the stops around a call; taken off
  std::map<std::string, SyscallFigures> by_function;
  std::map<std::string, std::map<std::string, SyscallFigures>> by_lane;  // "0", ..., "other"
};

struct CandidateInfo {
  std::string name;  // as the user wrote it, settings included: what results are told apart by
  std::string preload_path;  // path; empty for the C library's own
  std::string version;
  std::string build_id;
  std::vector<std::pair<std::string, std::string>> environment;  // settings of this candidate
};

struct RunResult {
  CandidateInfo candidate;
  std::string workload;  // path as given
  std::uint32_t round = 0;

  RunStatus status = RunStatus::kOk;
  std::optional<RunFailure> failure;
  std::optional<Verification> verification;  // with --verify
  std::vector<std::string> notes;            // oddities that are no failure
  std::string malloc_library;                // file that served malloc
  std::vector<std::string> fallbacks;        // API functions that the candidate does not have

  std::string timing;              // "all" | "sample" | "none"
  std::uint64_t timing_every = 1;  // calls for one that is timed, on average
  std::string touch;               // "none" | "page" | "full" | "N%"
  bool touch_calloc = false, touch_reads = false;
  std::map<std::string, std::uint64_t> ops;  // by API function, as counted by the replayer
  std::uint64_t total_ops = 0;
  std::uint64_t lanes = 0, threads = 0;

  std::optional<std::uint64_t> wall_ns, user_ns, system_ns;
  std::optional<double> ticks_per_second;
  std::optional<std::uint64_t> wall_ticks;
  std::optional<std::uint64_t> minor_faults, major_faults;
  std::optional<std::uint64_t> voluntary_switches, involuntary_switches;
  std::uint64_t sync_waits = 0, sync_blocked = 0, sync_wait_ns = 0;

  std::optional<std::uint64_t> baseline_rss_bytes, baseline_vm_bytes, prologue_rss_bytes;
  std::optional<std::uint64_t> peak_rss_bytes, peak_rss_above_baseline_bytes;
  std::optional<std::uint64_t> end_rss_bytes, end_huge_bytes;
  std::optional<std::uint64_t> peak_vm_bytes, end_vm_bytes;
  std::optional<std::uint64_t> peak_live_bytes, end_live_bytes;
  std::uint64_t live_peak_error_bytes = 0;

  // The program's own mappings (record --mmap), replayed beside the blocks.
  struct Mappings {
    std::uint64_t peak_bytes = 0, end_bytes = 0;
    std::uint64_t failed_ops = 0;   // refused by the kernel
    std::uint64_t skipped_ops = 0;  // --maps skip, or on what could not be mapped
  } mappings;

  std::map<std::string, LatencySummary> latency;  // by API function; net of timer_overhead_ns
  std::map<std::string, std::vector<SizeLatency>> latency_by_size;
  std::vector<SlowCall> slowest_calls;   // slowest first
  std::optional<double> latency_error;   // of percentiles: at most this share of the value
  std::optional<double> fault_check_ns;  // calls shorter than this cannot hold a page fault
  std::optional<std::uint64_t> faulted_calls, call_faults;  // timed calls with faults; those faults
  std::optional<double> timer_overhead_ns;                  // a pair of stamps
  std::optional<double> harness_op_ns;  // an op of the loop on functions that do nothing
  std::optional<double> sample_ns;

  struct Fidelity {
    std::uint64_t recorded_peak_live_bytes = 0;
    std::optional<double> live_peak_ratio;  // replayed / recorded
    bool faithful = false;                  // complete, ordered, and within 1% of the recorded peak
    std::uint64_t order_violations = 0, failed_ops = 0, skipped_ops = 0, unexpected_successes = 0;
    std::optional<double> harness_share;  // estimated share of the run's CPU time
  } fidelity;

  std::vector<MemoryPoint> memory_points;
  std::optional<MemoryParts> parts_at_peak, parts_at_end;  // of the live bytes' peak; of the run
  std::optional<std::uint64_t> freed_rss_bytes, settled_rss_bytes, settle_ns;
  std::optional<std::uint64_t> harness_rss_bytes;  // calibrated with an allocator that does nothing
  std::optional<AllocatorView> view_at_peak, view_at_end;
  std::optional<SyscallCounts> syscalls;
  std::uint64_t purges = 0;  // --trim-every
  std::string purge_by;      // the function; empty: none was asked for
  std::uint64_t purge_ns = 0;

  MemoryCurve by_progress, by_time;
};

// What the machine was when the runs were made.
struct Environment {
  std::string alloctape_version, cpu, kernel, clocksource, transparent_hugepages, governor, libc;
  std::uint64_t cores = 0, memory_bytes = 0;
};

nlohmann::json to_json(const RunResult& run, bool with_schema = true);
nlohmann::json to_json(const Environment& environment);
Result<RunResult> run_result_from_json(const nlohmann::json& json);

struct Comparison {
  std::vector<RunResult> runs;  // in the order in which they were made
  Environment environment;
  std::uint64_t seed = 0;
  std::uint32_t rounds = 0;
  std::vector<std::string> candidates, workloads;  // in the order of the command line
};
nlohmann::json to_json(const Comparison& comparison);
// Takes a replay result as well: a comparison of one run.
Result<Comparison> comparison_from_json(const nlohmann::json& json);
Result<Comparison> read_results(const std::string& path);

}  // namespace alloctape::formats

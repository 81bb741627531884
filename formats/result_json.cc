#include "formats/result_json.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "formats/result_json_parts.h"

namespace alloctape::formats {
namespace {

using Json = nlohmann::json;
using json_parts::or_null;
using json_parts::read;
using json_parts::text_or_null;

Json curve_json(const MemoryCurve& curve) {
  Json j{{"ns", curve.ns}, {"anon_bytes", curve.anon_bytes}, {"vm_bytes", curve.vm_bytes}};
  if (!curve.ops.empty()) j["ops"] = curve.ops;
  if (!curve.live_bytes.empty()) j["live_bytes"] = curve.live_bytes;
  if (!curve.usable_bytes.empty()) j["usable_bytes"] = curve.usable_bytes;
  return j;
}
void read_curve(const Json& from, const char* key, MemoryCurve& curve) {
  const auto it = from.find(key);
  if (it == from.end() || it->is_null()) return;
  read(*it, "ns", curve.ns);
  read(*it, "ops", curve.ops);
  read(*it, "anon_bytes", curve.anon_bytes);
  read(*it, "vm_bytes", curve.vm_bytes);
  read(*it, "live_bytes", curve.live_bytes);
  read(*it, "usable_bytes", curve.usable_bytes);
}

Json candidate_json(const CandidateInfo& c) {
  Json environment = Json::object();
  for (const auto& [key, value] : c.environment) environment[key] = value;
  return {{"name", c.name},
          {"library", text_or_null(c.preload_path)},
          {"version", text_or_null(c.version)},
          {"build_id", text_or_null(c.build_id)},
          {"environment", environment}};
}
void read_candidate(const Json& from, RunResult& run) {
  run.candidate.name = from.at("candidate").get<std::string>();
  const auto it = from.find("candidate_info");
  if (it == from.end()) return;
  read(*it, "library", run.candidate.preload_path);
  read(*it, "version", run.candidate.version);
  read(*it, "build_id", run.candidate.build_id);
  if (const auto env = it->find("environment"); env != it->end())
    for (const auto& [key, value] : env->items())
      run.candidate.environment.emplace_back(key, value.get<std::string>());
}

Json failure_json(const RunFailure& f) {
  return {{"message", f.message},
          {"phase", text_or_null(f.phase)},
          {"signal", or_null(f.signal)},
          {"signal_name", text_or_null(f.signal_name)},
          {"exit_code", or_null(f.exit_code)},
          {"lane", or_null(f.lane)},
          {"thread", or_null(f.thread)},
          {"op_index", or_null(f.op_index)},
          {"op", text_or_null(f.op)},
          {"slot", or_null(f.slot)},
          {"size_bytes", or_null(f.size_bytes)},
          {"address", or_null(f.address)},
          {"backtrace", f.backtrace}};
}
RunFailure read_failure(const Json& from) {
  RunFailure f;
  read(from, "message", f.message);
  read(from, "phase", f.phase);
  read(from, "signal", f.signal);
  read(from, "signal_name", f.signal_name);
  read(from, "exit_code", f.exit_code);
  read(from, "lane", f.lane);
  read(from, "thread", f.thread);
  read(from, "op_index", f.op_index);
  read(from, "op", f.op);
  read(from, "slot", f.slot);
  read(from, "size_bytes", f.size_bytes);
  read(from, "address", f.address);
  read(from, "backtrace", f.backtrace);
  return f;
}

Json fidelity_json(const RunResult::Fidelity& f) {
  return {{"recorded_peak_live_bytes", f.recorded_peak_live_bytes},
          {"live_peak_ratio", or_null(f.live_peak_ratio)},
          {"faithful", f.faithful},
          {"order_violations", f.order_violations},
          {"failed_ops", f.failed_ops},
          {"skipped_ops", f.skipped_ops},
          {"unexpected_successes", f.unexpected_successes},
          {"harness_share", or_null(f.harness_share)}};
}
void read_fidelity(const Json& from, RunResult::Fidelity& f) {
  const auto it = from.find("fidelity");
  if (it == from.end()) return;
  read(*it, "recorded_peak_live_bytes", f.recorded_peak_live_bytes);
  read(*it, "live_peak_ratio", f.live_peak_ratio);
  read(*it, "faithful", f.faithful);
  read(*it, "order_violations", f.order_violations);
  read(*it, "failed_ops", f.failed_ops);
  read(*it, "skipped_ops", f.skipped_ops);
  read(*it, "unexpected_successes", f.unexpected_successes);
  read(*it, "harness_share", f.harness_share);
}

Error corrupt(std::string message, std::string path = {}) {
  return Error{ErrorCode::kCorrupt, std::move(message), std::move(path), std::nullopt, {}};
}

RunResult read_run(const Json& j) {
  RunResult run;
  read_candidate(j, run);
  read(j, "workload", run.workload);
  read(j, "round", run.round);
  const auto status = j.at("status").get<std::string>();
  run.status = status == "ok"          ? RunStatus::kOk
               : status == "crashed"   ? RunStatus::kCrashed
               : status == "hung"      ? RunStatus::kHung
               : status == "corrupted" ? RunStatus::kCorrupted
                                       : RunStatus::kFailed;
  if (const auto it = j.find("failure"); it != j.end() && !it->is_null())
    run.failure = read_failure(*it);
  json_parts::read_verification(j, run);
  read(j, "notes", run.notes);
  read(j, "malloc_library", run.malloc_library);
  read(j, "fallbacks", run.fallbacks);
  read(j, "timing", run.timing);
  read(j, "timing_every", run.timing_every);
  read(j, "touch", run.touch);
  read(j, "touch_calloc", run.touch_calloc);
  read(j, "touch_reads", run.touch_reads);
  read(j, "ops", run.ops);
  read(j, "total_ops", run.total_ops);
  read(j, "lanes", run.lanes);
  read(j, "threads", run.threads);
  read(j, "wall_ns", run.wall_ns);
  read(j, "user_ns", run.user_ns);
  read(j, "system_ns", run.system_ns);
  read(j, "ticks_per_second", run.ticks_per_second);
  read(j, "wall_ticks", run.wall_ticks);
  read(j, "minor_faults", run.minor_faults);
  read(j, "major_faults", run.major_faults);
  read(j, "voluntary_switches", run.voluntary_switches);
  read(j, "involuntary_switches", run.involuntary_switches);
  if (const auto it = j.find("sync"); it != j.end()) {
    read(*it, "waits", run.sync_waits);
    read(*it, "blocked", run.sync_blocked);
    read(*it, "wait_ns", run.sync_wait_ns);
  }
  read(j, "baseline_rss_bytes", run.baseline_rss_bytes);
  read(j, "baseline_vm_bytes", run.baseline_vm_bytes);
  read(j, "prologue_rss_bytes", run.prologue_rss_bytes);
  read(j, "peak_rss_bytes", run.peak_rss_bytes);
  read(j, "peak_rss_above_baseline_bytes", run.peak_rss_above_baseline_bytes);
  read(j, "end_rss_bytes", run.end_rss_bytes);
  read(j, "end_huge_bytes", run.end_huge_bytes);
  read(j, "peak_vm_bytes", run.peak_vm_bytes);
  read(j, "end_vm_bytes", run.end_vm_bytes);
  read(j, "peak_live_bytes", run.peak_live_bytes);
  read(j, "end_live_bytes", run.end_live_bytes);
  read(j, "live_peak_error_bytes", run.live_peak_error_bytes);
  if (const auto it = j.find("mappings"); it != j.end() && !it->is_null()) {
    read(*it, "peak_bytes", run.mappings.peak_bytes);
    read(*it, "end_bytes", run.mappings.end_bytes);
    read(*it, "failed_ops", run.mappings.failed_ops);
    read(*it, "skipped_ops", run.mappings.skipped_ops);
  }
  json_parts::read_latencies(j, run);
  read(j, "timer_overhead_ns", run.timer_overhead_ns);
  read(j, "harness_op_ns", run.harness_op_ns);
  read(j, "sample_ns", run.sample_ns);
  read_fidelity(j, run.fidelity);
  json_parts::read_memory(j, run);
  json_parts::read_syscalls(j, run);
  read_curve(j, "memory_by_progress", run.by_progress);
  read_curve(j, "memory_by_time", run.by_time);
  return run;
}

}  // namespace

const char* to_string(RunStatus status) {
  switch (status) {
    case RunStatus::kOk:
      return "ok";
    case RunStatus::kCrashed:
      return "crashed";
    case RunStatus::kHung:
      return "hung";
    case RunStatus::kCorrupted:
      return "corrupted";
    case RunStatus::kFailed:
      return "failed";
  }
  return "failed";
}

Json to_json(const RunResult& run, bool with_schema) {
  Json j;
  if (with_schema) j["schema"] = kReplaySchema;
  j["candidate"] = run.candidate.name;
  j["candidate_info"] = candidate_json(run.candidate);
  j["workload"] = run.workload;
  j["round"] = run.round;
  j["status"] = to_string(run.status);
  j["failure"] = run.failure ? failure_json(*run.failure) : Json(nullptr);
  json_parts::add_verification(j, run);
  j["notes"] = run.notes;
  j["malloc_library"] = text_or_null(run.malloc_library);
  j["fallbacks"] = run.fallbacks;
  j["timing"] = run.timing;
  j["timing_every"] = run.timing_every;
  j["touch"] = run.touch;
  j["touch_calloc"] = run.touch_calloc;
  j["touch_reads"] = run.touch_reads;
  j["ops"] = run.ops;
  j["total_ops"] = run.total_ops;
  j["lanes"] = run.lanes;
  j["threads"] = run.threads;
  j["wall_ns"] = or_null(run.wall_ns);
  j["user_ns"] = or_null(run.user_ns);
  j["system_ns"] = or_null(run.system_ns);
  j["ticks_per_second"] = or_null(run.ticks_per_second);
  j["wall_ticks"] = or_null(run.wall_ticks);
  j["minor_faults"] = or_null(run.minor_faults);
  j["major_faults"] = or_null(run.major_faults);
  j["voluntary_switches"] = or_null(run.voluntary_switches);
  j["involuntary_switches"] = or_null(run.involuntary_switches);
  j["sync"] = {
      {"waits", run.sync_waits}, {"blocked", run.sync_blocked}, {"wait_ns", run.sync_wait_ns}};
  j["baseline_rss_bytes"] = or_null(run.baseline_rss_bytes);
  j["baseline_vm_bytes"] = or_null(run.baseline_vm_bytes);
  j["prologue_rss_bytes"] = or_null(run.prologue_rss_bytes);
  j["peak_rss_bytes"] = or_null(run.peak_rss_bytes);
  j["peak_rss_above_baseline_bytes"] = or_null(run.peak_rss_above_baseline_bytes);
  j["end_rss_bytes"] = or_null(run.end_rss_bytes);
  j["end_huge_bytes"] = or_null(run.end_huge_bytes);
  j["peak_vm_bytes"] = or_null(run.peak_vm_bytes);
  j["end_vm_bytes"] = or_null(run.end_vm_bytes);
  j["peak_live_bytes"] = or_null(run.peak_live_bytes);
  j["end_live_bytes"] = or_null(run.end_live_bytes);
  j["live_peak_error_bytes"] = run.live_peak_error_bytes;
  j["mappings"] = {{"peak_bytes", run.mappings.peak_bytes},
                   {"end_bytes", run.mappings.end_bytes},
                   {"failed_ops", run.mappings.failed_ops},
                   {"skipped_ops", run.mappings.skipped_ops}};
  json_parts::add_latencies(j, run);
  j["timer_overhead_ns"] = or_null(run.timer_overhead_ns);
  j["harness_op_ns"] = or_null(run.harness_op_ns);
  j["sample_ns"] = or_null(run.sample_ns);
  j["fidelity"] = fidelity_json(run.fidelity);
  json_parts::add_memory(j, run);
  json_parts::add_syscalls(j, run);
  j["memory_by_progress"] = curve_json(run.by_progress);
  j["memory_by_time"] = curve_json(run.by_time);
  return j;
}

Json to_json(const Environment& e) {
  return {{"alloctape_version", text_or_null(e.alloctape_version)},
          {"cpu", text_or_null(e.cpu)},
          {"kernel", text_or_null(e.kernel)},
          {"clocksource", text_or_null(e.clocksource)},
          {"transparent_hugepages", text_or_null(e.transparent_hugepages)},
          {"governor", text_or_null(e.governor)},
          {"libc", text_or_null(e.libc)},
          {"cores", e.cores},
          {"memory_bytes", e.memory_bytes}};
}

Json to_json(const Comparison& c) {
  Json j{{"schema", kCompareSchema},
         {"environment", to_json(c.environment)},
         {"seed", c.seed},
         {"rounds", c.rounds},
         {"candidates", c.candidates},
         {"workloads", c.workloads},
         {"runs", Json::array()}};
  for (const RunResult& run : c.runs) j["runs"].push_back(to_json(run, false));
  return j;
}

Result<RunResult> run_result_from_json(const Json& j) {
  try {
    return read_run(j);
  } catch (const Json::exception& e) {
    return corrupt(std::string("this is no replay result: ") + e.what());
  }
}

Result<Comparison> comparison_from_json(const Json& j) {
  try {
    Comparison c;
    const auto schema = j.at("schema").get<std::string>();
    if (schema == kReplaySchema) {
      c.runs.push_back(read_run(j));
      c.rounds = 1;
      c.candidates = {c.runs[0].candidate.name};
      c.workloads = {c.runs[0].workload};
      return c;
    }
    if (schema != kCompareSchema)
      return Error{ErrorCode::kUnsupportedVersion,
                   "schema \"" + schema + "\" is not one that this version reads",
                   {},
                   std::nullopt,
                   "schema"};
    if (const auto it = j.find("environment"); it != j.end()) {
      Environment& e = c.environment;
      read(*it, "alloctape_version", e.alloctape_version);
      read(*it, "cpu", e.cpu);
      read(*it, "kernel", e.kernel);
      read(*it, "clocksource", e.clocksource);
      read(*it, "transparent_hugepages", e.transparent_hugepages);
      read(*it, "governor", e.governor);
      read(*it, "libc", e.libc);
      read(*it, "cores", e.cores);
      read(*it, "memory_bytes", e.memory_bytes);
    }
    read(j, "seed", c.seed);
    read(j, "rounds", c.rounds);
    read(j, "candidates", c.candidates);
    read(j, "workloads", c.workloads);
    for (const Json& run : j.at("runs")) c.runs.push_back(read_run(run));
    return c;
  } catch (const Json::exception& e) {
    return corrupt(std::string("this is no result of alloctape: ") + e.what());
  }
}

Result<Comparison> read_results(const std::string& path) {
  std::ifstream file(path);
  if (!file)
    return Error{ErrorCode::kIo,
                 std::string("cannot be read: ") + std::strerror(errno),
                 path,
                 std::nullopt,
                 {}};
  Json j = Json::parse(file, nullptr, false);
  if (j.is_discarded())
    return Error{ErrorCode::kNotThisFormat, "is not JSON", path, std::nullopt, {}};
  auto comparison = comparison_from_json(j);
  if (comparison) return comparison;
  Error error = comparison.error();
  error.path = path;
  return error;
}

}  // namespace alloctape::formats

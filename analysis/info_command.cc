// `alloctape info`: what a trace or a workload is, and where it comes from.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "analysis/commands.h"
#include "analysis/explained_memory.h"
#include "analysis/input.h"
#include "analysis/json.h"
#include "analysis/trace_summary.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/table.h"
#include "cli/units.h"
#include "formats/sync_order.h"

namespace alloctape::analysis {
namespace {

namespace po = boost::program_options;
using cli::Table;

struct RssSummary {
  std::uint64_t peak_anon = 0, peak_vm = 0, last_anon = 0;
};

RssSummary summarize_rss(const formats::TraceFile& file) {
  RssSummary s;
  for (const wire::RssSample& sample : file.rss()) {
    s.peak_anon = std::max(s.peak_anon, sample.anon_bytes);
    s.peak_vm = std::max(s.peak_vm, sample.vm_bytes);
    s.last_anon = sample.anon_bytes;
  }
  return s;
}

const char* clock_name(wire::ClockKind kind) {
  return kind == wire::ClockKind::kTsc ? "tsc" : "monotonic_ns";
}

std::string hex(std::uint64_t n) { return fmt::format("{:016x}", n); }

Json text_or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

std::size_t count_blocks(const formats::TraceFile& file) {
  std::size_t blocks = 0;
  for (const auto& stream : file.streams()) blocks += stream.size();
  return blocks;
}

std::uint64_t span_ns(const formats::TraceFile& file, const DecodedCounts& counts) {
  return file.to_ns(counts.last_stamp) - file.to_ns(counts.first_stamp);
}

double per_event(std::uint64_t bytes, std::uint64_t events) {
  return events == 0 ? 0 : static_cast<double>(bytes) / static_cast<double>(events);
}

// Following every block costs some 100 ns an event, so that very long traces wait to be asked.
constexpr std::uint64_t kMaxEventsWalked = 50'000'000;

// Whether the trace explains the memory of its process, or why that was not looked at.
struct Explanation {
  std::optional<ExplainedMemory> memory;
  const char* why_not = nullptr;
};

Explanation explain(const formats::TraceFile& file, const std::optional<DecodedCounts>& counts,
                    bool full) {
  Explanation result;
  result.why_not = why_not_comparable(file);
  if (result.why_not != nullptr) return result;
  if (!counts || (counts->events > kMaxEventsWalked && !full)) {
    result.why_not = "not_walked";
    return result;
  }
  cli::Progress progress("info: live blocks", "words", file.event_words());
  result.memory = explain_memory(file, [&](std::uint64_t done) { progress.update(done); });
  if (!result.memory) result.why_not = "incomplete";
  return result;
}

Json explanation_json(const Explanation& explanation) {
  Json json;
  json["compared"] = explanation.memory.has_value();
  json["reason"] = explanation.why_not == nullptr ? Json() : Json(explanation.why_not);
  if (!explanation.memory) return json;
  const ExplainedMemory& memory = *explanation.memory;
  json["rss_growth_bytes"] = memory.rss_growth_bytes;
  json["live_bytes"] = memory.live_bytes;
  json["live_blocks"] = memory.live_blocks;
  json["mapped_bytes"] = memory.mapped_bytes;
  json["too_little"] = memory.too_little();
  return json;
}

Json trace_json(const formats::TraceFile& file, const std::optional<DecodedCounts>& counts,
                const Explanation& explanation) {
  const wire::TraceHeader& h = file.header();
  const formats::TraceMetadata& m = file.metadata();
  Json json;
  json["schema"] = "alloctape.info/1";
  json["kind"] = "trace";
  json["file"] = file.path();
  json["file_bytes"] = file.file_bytes();
  json["version"] = h.version;
  json["state"] = name_of(recording_state(file));
  json["stop_errno"] = h.state == wire::TraceState::kStopped ? Json(h.stop_errno) : Json(nullptr);
  json["truncated"] = file.truncated();
  json["executable"] = text_or_null(m.executable);
  json["command_line"] = m.command_line;
  json["working_directory"] = text_or_null(m.working_directory);
  json["image"] = {
      {"pid", h.pid},
      {"parent_pid", h.parent_pid},
      {"image_id", hex(h.image_id)},
      {"parent_image_id", h.parent_image_id == 0 ? Json(nullptr) : Json(hex(h.parent_image_id))},
      {"image_sequence", h.image_sequence},
      {"process_start_ticks", h.process_start_ticks}};
  json["allocator"] = {{"path", text_or_null(m.allocator_path)},
                       {"build_id", text_or_null(m.allocator_build_id)}};
  json["preload"] = text_or_null(m.preload);
  json["tracer_version"] = text_or_null(m.tracer_version);
  json["options"] = text_or_null(m.options);
  json["host_kernel"] = text_or_null(m.host_kernel);
  json["page_bytes"] = h.page_bytes;
  json["features"] = {{"sparse_stamps", (h.features & wire::kFeatureSparseStamps) != 0},
                      {"strict_order", (h.features & wire::kFeatureStrictOrder) != 0},
                      {"usable", (h.features & wire::kFeatureUsable) != 0},
                      {"latency", (h.features & wire::kFeatureLatency) != 0},
                      {"ring", (h.features & wire::kFeatureRing) != 0},
                      {"maps", (h.features & wire::kFeatureMaps) != 0},
                      {"owned_stamps", (h.features & wire::kFeatureOwnedStamps) != 0}};
  // A file from before there was control has no control word.
  json["control"] = h.control == 0 ? Json(nullptr) : Json(control_name(h));
  json["commands"] = wire::control_generation(h.control);
  json["reset"] = h.reset_stamp != 0;
  json["max_bytes"] = h.max_bytes == 0 ? Json(nullptr) : Json(h.max_bytes);
  json["ring"] = nullptr;
  if (h.features & wire::kFeatureRing) {
    json["ring"] = {{"bytes", h.ring_bytes},
                    {"blocks_written", h.ring_next},
                    {"overwritten_events", file.overwritten_events()},
                    {"overwritten_blocks", file.overwritten_blocks()}};
  }
  json["marks"] = file.marks().size();
  json["clock"] = {{"kind", clock_name(h.clock_kind)},
                   {"shift", h.clock_shift},
                   {"ticks_per_second", file.ticks_per_second()}};
  json["start_realtime_ns"] = h.start_realtime_ns;
  json["streams"] = file.streams().size();
  json["blocks"] = count_blocks(file);
  json["event_bytes"] = file.event_words() * 8;
  json["dropped_events"] = file.dropped_events();
  if (counts) {
    json["events"] = counts->events;
    json["api_events"] = counts->api_events;
    json["threads"] = counts->threads;
    json["duration_ns"] = span_ns(file, *counts);
    const bool any = counts->events > 0;
    json["bytes_per_event"] =
        any ? Json(per_event(file.event_words() * 8, counts->events)) : Json();
    json["file_bytes_per_event"] =
        any ? Json(per_event(file.file_bytes(), counts->events)) : Json();
    json["damaged_blocks"] = counts->damaged_blocks;
  }
  const bool sampled = !file.rss().empty();
  const RssSummary rss = summarize_rss(file);
  json["rss"] = {{"samples", file.rss().size()},
                 {"peak_anon_bytes", sampled ? Json(rss.peak_anon) : Json()},
                 {"end_anon_bytes", sampled ? Json(rss.last_anon) : Json()},
                 {"peak_vm_bytes", sampled ? Json(rss.peak_vm) : Json()}};
  json["explained_memory"] = explanation_json(explanation);
  json["warnings"] = Json::array();
  for (const formats::Error& warning : file.warnings()) {
    json["warnings"].push_back(warning.to_string());
  }
  return json;
}

std::string text_or_dash(const std::string& text) { return text.empty() ? "-" : printable(text); }

std::string state_text(const formats::TraceFile& file) {
  const wire::TraceHeader& h = file.header();
  switch (recording_state(file)) {
    case RecordingState::kRecording:
      return fmt::format("still recording (process {} runs)", h.pid);
    case RecordingState::kFinished:
      return "finished";
    case RecordingState::kStopped:
      return fmt::format("stopped early: {}", h.stop_errno == 0
                                                  ? "a limit was reached"
                                                  : std::strerror(static_cast<int>(h.stop_errno)));
    case RecordingState::kUnfinished:
      return "complete up to where the program was ended (killed, _exit or exec)";
    case RecordingState::kUnknown:
      break;
  }
  return "unknown (made by a later version?)";
}

std::string quoted_command(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) {
    if (!out.empty()) out += ' ';
    const bool plain = !word.empty() && word.find_first_of(" \t\n'\"\\$") == std::string::npos;
    out += plain ? printable(word) : "'" + printable(word) + "'";
  }
  return out.empty() ? "-" : out;
}

void add_identity(Table& table, const formats::TraceFile& file) {
  const wire::TraceHeader& h = file.header();
  const formats::TraceMetadata& m = file.metadata();
  table.row({"Executable", text_or_dash(m.executable)});
  table.row({"Command line", quoted_command(m.command_line)});
  table.row({"Working directory", text_or_dash(m.working_directory)});
  table.row({"Process", fmt::format("{}, image {} of this pid, id {}", h.pid, h.image_sequence,
                                    hex(h.image_id))});
  table.row({"Parent", h.parent_image_id == 0 ? fmt::format("{} (not traced)", h.parent_pid)
                                              : fmt::format("{}, forked from image {}",
                                                            h.parent_pid, hex(h.parent_image_id))});
  table.row({"Allocator", m.allocator_build_id.empty()
                              ? text_or_dash(m.allocator_path)
                              : fmt::format("{} (build id {})", text_or_dash(m.allocator_path),
                                            printable(m.allocator_build_id))});
  table.row({"Preloaded besides", text_or_dash(m.preload)});
  table.row(
      {"Recorded", fmt::format("{}, by alloctape {} on Linux {}", utc_time(h.start_realtime_ns),
                               text_or_dash(m.tracer_version), text_or_dash(m.host_kernel))});
  table.row({"Options", text_or_dash(m.options)});
  table.row({"Clock", fmt::format("{}, {:.6g} MHz, unit {}", clock_name(h.clock_kind),
                                  file.ticks_per_second() / 1e6,
                                  cli::duration_ns(static_cast<double>(1ULL << h.clock_shift) *
                                                   1e9 / file.ticks_per_second()))});
}

// How the recording was steered; no rows where it was not.
void add_control(Table& table, const formats::TraceFile& file) {
  const wire::TraceHeader& h = file.header();
  if (wire::control_generation(h.control) != 0 ||
      wire::control_state(h.control) == wire::ControlState::kPaused) {
    table.row({"Control", fmt::format("{}, after {} commands{}", control_name(h),
                                      wire::control_generation(h.control),
                                      h.reset_stamp != 0 ? ", the last reset throws away what was "
                                                           "before it"
                                                         : "")});
  }
  if (h.features & wire::kFeatureRing) {
    table.row({"Ring", fmt::format("{}, {} events overwritten in {} blocks",
                                   cli::bytes(h.ring_bytes), cli::count(file.overwritten_events()),
                                   cli::count(file.overwritten_blocks()))});
  }
  if (h.max_bytes != 0) table.row({"Limit", cli::bytes(h.max_bytes)});
  if (!file.marks().empty()) table.row({"Marks", cli::count(file.marks().size())});
}

void print_trace(cli::Output& out, const formats::TraceFile& file,
                 const std::optional<DecodedCounts>& counts, const Explanation& explanation) {
  out.print("{}: trace, version {}\n\n", file.path(), file.header().version);
  Table table;
  table.column("", Table::Align::kLeft);
  table.column("", Table::Align::kLeft);
  table.row({"State", state_text(file)});
  add_identity(table, file);
  table.row({"Streams", fmt::format("{} in {} blocks", cli::count(file.streams().size()),
                                    cli::count(count_blocks(file)))});
  if (counts) {
    table.row({"Threads", cli::count(counts->threads)});
    table.row({"Events", fmt::format("{}, of them {} calls", cli::count(counts->events),
                                     cli::count(counts->api_events))});
    table.row({"Duration", cli::duration_ns(static_cast<double>(span_ns(file, *counts)))});
  }
  std::string size = fmt::format("{}, of them {} of events", cli::bytes(file.file_bytes()),
                                 cli::bytes(file.event_words() * 8));
  if (counts && counts->events > 0) {
    size +=
        fmt::format(" ({:.2f} bytes per event)", per_event(file.event_words() * 8, counts->events));
  }
  table.row({"Size", std::move(size)});
  table.row({"Lost events", cli::count(file.dropped_events())});
  add_control(table, file);
  if (file.rss().empty()) {
    table.row({"Anonymous RSS", "- (not sampled)"});
  } else {
    const RssSummary rss = summarize_rss(file);
    table.row(
        {"Anonymous RSS", fmt::format("peak {}, last {} ({} samples)", cli::bytes(rss.peak_anon),
                                      cli::bytes(rss.last_anon), cli::count(file.rss().size()))});
  }
  if (explanation.memory) {
    const ExplainedMemory& memory = *explanation.memory;
    table.row({"Explained by",
               fmt::format("{} live{}, of {} that RSS grew by", cli::bytes(memory.live_bytes),
                           memory.mapped_bytes == 0
                               ? ""
                               : fmt::format(" and {} mapped", cli::bytes(memory.mapped_bytes)),
                           cli::bytes(memory.rss_growth_bytes))});
  }
  out.write(table.str());
  if (file.header().features & (wire::kFeatureSparseStamps | wire::kFeatureOwnedStamps)) {
    out.write("\nNot every event has read the clock: times are rounded, order is not affected.\n");
  }
}

Json parse_provenance(const formats::WorkloadFile& file) {
  const std::string text = file.provenance();
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  return json.is_discarded() ? Json(text) : json;
}

Json workload_json(const formats::WorkloadFile& file) {
  const wire::WorkloadHeader& h = file.header();
  Json json;
  json["schema"] = "alloctape.info/1";
  json["kind"] = "workload";
  json["file"] = file.path();
  json["file_bytes"] = h.file_bytes;
  json["version"] = h.version;
  json["order"] = formats::order_name(h.order);
  json["lanes"] = h.lanes;
  json["threads"] = h.threads;
  json["ops"] = h.ops;
  Json by_kind = Json::object();
  for (int i = 1; i < wire::kApiOpLimit; ++i) {
    const char* name = wire::traits(static_cast<wire::Op>(i)).name;
    if (h.ops_by_kind[i] > 0 && name != nullptr) by_kind[name] = h.ops_by_kind[i];
  }
  json["ops_by_kind"] = std::move(by_kind);
  json["slots"] = h.slots;
  json["sync_points"] = h.sync_points;
  json["prologue_blocks"] = h.prologue_blocks;
  json["live"] = {{"peak_bytes", h.peak_live_bytes},
                  {"peak_blocks", h.peak_live_blocks},
                  {"end_bytes", h.end_live_bytes},
                  {"end_blocks", h.end_live_blocks}};
  json["recorded_ns"] = h.recorded_ns;
  json["live_curve_points"] = file.live_curve().size();
  json["rss_curve_points"] = file.rss_curve().size();
  json["bytes_per_op"] = h.ops == 0 ? Json() : Json(per_event(h.file_bytes, h.ops));
  json["provenance"] = parse_provenance(file);
  return json;
}

// The provenance is the converter's to define: shown as it comes, one line for each key.
void add_provenance(Table& table, const Json& json, const std::string& prefix) {
  if (!json.is_object()) return;
  for (const auto& [key, value] : json.items()) {
    const std::string name = prefix.empty() ? key : prefix + "." + key;
    if (value.is_object()) {
      add_provenance(table, value, name);
    } else {
      const std::string text = value.is_string()
                                   ? value.get<std::string>()
                                   : value.dump(-1, ' ', false, Json::error_handler_t::replace);
      table.row({"  " + printable(name), text_or_dash(text)});
    }
  }
}

void print_workload(cli::Output& out, const formats::WorkloadFile& file) {
  const wire::WorkloadHeader& h = file.header();
  out.print("{}: workload, version {}\n\n", file.path(), h.version);
  Table table;
  table.column("", Table::Align::kLeft);
  table.column("", Table::Align::kLeft);
  table.row({"Threads", fmt::format("{} in {} lanes", cli::count(h.threads), cli::count(h.lanes))});
  table.row({"Ops", cli::count(h.ops)});
  table.row({"Order", formats::order_name(h.order)});
  table.row({"Sync points", cli::count(h.sync_points)});
  table.row({"Slots", cli::count(h.slots)});
  table.row({"From before the recording", fmt::format("{} blocks", cli::count(h.prologue_blocks))});
  table.row({"Live, peak", fmt::format("{}, {} blocks", cli::bytes(h.peak_live_bytes),
                                       cli::count(h.peak_live_blocks))});
  table.row({"Live, at the end", fmt::format("{}, {} blocks", cli::bytes(h.end_live_bytes),
                                             cli::count(h.end_live_blocks))});
  table.row({"Recorded time", cli::duration_ns(static_cast<double>(h.recorded_ns))});
  table.row({"Size", fmt::format("{} ({:.2f} bytes per op)", cli::bytes(h.file_bytes),
                                 per_event(h.file_bytes, h.ops))});
  const Json provenance = parse_provenance(file);
  if (provenance.is_object() && !provenance.empty()) {
    table.row({"Provenance", ""});
    add_provenance(table, provenance, "");
  }
  out.write(table.str());

  Table kinds;
  kinds.column("Ops", Table::Align::kLeft);
  kinds.column("count");
  for (int i = 1; i < wire::kApiOpLimit; ++i) {
    const char* name = wire::traits(static_cast<wire::Op>(i)).name;
    if (h.ops_by_kind[i] > 0 && name != nullptr) kinds.row({name, cli::count(h.ops_by_kind[i])});
  }
  out.print("\n{}", kinds.str());
}

int run(const std::vector<std::string>& args) {
  cli::CommandLine line;
  line.synopsis = "info FILE [--quick|--full] [--json]";
  line.description =
      "Shows what a trace or a workload is: the program and its process image, the allocator it "
      "ran "
      "on, how and when it was recorded, whether the recording is complete, and how much it holds. "
      "What kind a file is, its first bytes tell, not its name.";
  line.examples =
      "  alloctape info app.atrace\n"
      "  alloctape info --json app.awl | jq .provenance\n";
  line.options.add_options()("quick", "Do not decode a trace: no events, threads and duration.")(
      "full",
      "Follow the blocks of a trace of more than 50 million events, too: whether they explain "
      "the memory of the process.")("json", "Print JSON (schema alloctape.info/1).");
  line.hidden.add_options()("file", po::value<std::string>()->required(), "");
  line.positional.add("file", 1);
  const auto values = cli::parse(line, args);
  if (!values) return cli::kExitOk;

  const auto path = (*values)["file"].as<std::string>();
  const bool json = values->count("json") != 0;
  cli::Output out;
  if (kind_of(path) == FileKind::kWorkload) {
    const auto file = open_workload(path);
    if (json) {
      print_json(out, workload_json(file));
    } else {
      print_workload(out, file);
    }
    out.flush();
    return cli::kExitOk;
  }

  const auto file = open_trace(path);
  std::optional<DecodedCounts> counts;
  if (values->count("quick") == 0) {
    cli::Progress progress("info", "words", file.event_words());
    counts = count_events(file, [&](std::uint64_t done) { progress.update(done); });
  }
  const Explanation explanation = explain(file, counts, values->count("full") != 0);
  if (json) {
    print_json(out, trace_json(file, counts, explanation));
  } else {
    print_trace(out, file, counts, explanation);
  }
  out.flush();
  for (const formats::Error& warning : file.warnings()) cli::warn(warning.to_string());
  if (explanation.memory && explanation.memory->too_little()) {
    cli::warn(warning_text(*explanation.memory, file));
  }
  if (file.truncated()) {
    cli::warn(fmt::format("{}: the file ends inside a block; what is whole is shown", path));
  }
  if (counts && counts->damaged_blocks > 0) {
    cli::warn(fmt::format("{}: {} damaged blocks; `alloctape check` says where", path,
                          counts->damaged_blocks));
  }
  return cli::kExitOk;
}

}  // namespace

const cli::Command kInfoCommand = {"info", "what a trace or workload is", run};

}  // namespace alloctape::analysis

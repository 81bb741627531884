// `alloctape check`: is this file what it should be, and if not, where does it break?
#include <fmt/format.h>

#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "analysis/commands.h"
#include "analysis/input.h"
#include "analysis/json.h"
#include "analysis/trace_summary.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/table.h"
#include "cli/units.h"
#include "formats/heap_walk.h"

namespace alloctape::analysis {
namespace {

namespace po = boost::program_options;
using formats::Error;

// More than this many damaged places in one file tell nothing new.
constexpr std::size_t kMaxDamages = 20;

struct Finding {
  bool error = true;  // else a note: worth knowing, nothing wrong with the file
  std::string message;
  std::optional<std::uint64_t> offset;
  std::string field;
};

// Where blocks were lost: acquired again while they were live.
class LostBlocks : public formats::HeapVisitor {
 public:
  void on_lost(const formats::Event& event, formats::Block& block) override {
    if (findings.size() >= kMaxDamages) return;
    findings.push_back(
        {true,
         fmt::format("thread {} acquires {:#x} with {}, which is live since event {} "
                     "({} of {} bytes by thread {})",
                     static_cast<std::uint32_t>(event.thread), block.address,
                     wire::traits(event.op).name, block.birth_event, wire::traits(block.op).name,
                     block.size, block.thread),
         event.offset, "pointer"});
  }
  std::vector<Finding> findings;
};

struct FileReport {
  std::string path;
  std::string kind = "unknown";
  std::string summary;  // what was checked
  std::vector<Finding> findings;

  void error(std::string message) { findings.push_back({true, std::move(message), {}, {}}); }
  void note(std::string message) { findings.push_back({false, std::move(message), {}, {}}); }
  void error(const Error& e) { findings.push_back({true, e.message, e.offset, e.field}); }
  std::size_t errors() const {
    std::size_t n = 0;
    for (const Finding& f : findings) n += f.error;
    return n;
  }
};

// The walk skips a damaged block and counts it; where exactly the damage is, the decoders tell.
void list_damages(const formats::TraceFile& file, FileReport& report) {
  std::size_t listed = 0, damages = 0;
  for (std::size_t i = 0; i < file.streams().size(); ++i) {
    formats::StreamDecoder decoder(file, formats::StreamIndex{static_cast<std::uint32_t>(i)});
    formats::Event event;
    for (;;) {
      while (decoder.next(event)) {
      }
      if (decoder.error() == nullptr) break;
      ++damages;
      if (listed < kMaxDamages) {
        report.error(*decoder.error());
        ++listed;
      }
      if (!decoder.skip_block()) break;
    }
  }
  if (damages > listed) report.error(fmt::format("{} more damaged blocks", damages - listed));
}

void check_completeness(const formats::TraceFile& file, FileReport& report) {
  const wire::TraceHeader& h = file.header();
  const RecordingState state = recording_state(file);
  switch (state) {
    case RecordingState::kRecording:
      report.note(
          fmt::format("process {} is still recording: checked what is there so far", h.pid));
      break;
    case RecordingState::kUnfinished:
      report.note("the program was ended from outside, by _exit or by exec");
      break;
    case RecordingState::kStopped:
      report.note(fmt::format("recording stopped early: {}",
                              h.stop_errno == 0 ? "a limit was reached"
                                                : std::strerror(static_cast<int>(h.stop_errno))));
      break;
    case RecordingState::kUnknown:
      report.findings.push_back(
          {true, "unknown state", offsetof(wire::TraceHeader, state), "state"});
      break;
    case RecordingState::kFinished:
      break;
  }
  if (!file.truncated()) return;
  // A program killed while a full buffer went to the file leaves that block cut, but its events are
  // staged still: nothing is lost.
  const char* message = "the file ends inside a block";
  if (state == RecordingState::kRecording || state == RecordingState::kUnfinished) {
    report.note(std::string(message) + ": it was being written when the program was ended");
  } else {
    report.findings.push_back({true, message, file.file_bytes(), ""});
  }
}

void check_trace(FileReport& report) {
  report.kind = "trace";
  auto opened = formats::TraceFile::open(report.path);
  if (!opened) return report.error(opened.error());
  const formats::TraceFile& file = *opened;
  for (const Error& warning : file.warnings()) report.error(warning);
  check_completeness(file, report);

  cli::Progress progress("check " + report.path, "words", file.event_words());
  formats::WalkOptions options;
  options.progress = [&](std::uint64_t done) { progress.update(done); };
  LostBlocks lost;
  formats::HeapWalk walk(file, options);
  const formats::WalkTotals totals = walk.run(lost);
  if (totals.corrupt_blocks > 0) list_damages(file, report);
  progress.finish();

  if (totals.order.unrepairable > 0) {
    report.error(
        fmt::format("{} unrepairable order inversions: a block was acquired at an address "
                    "that was still live",
                    totals.order.unrepairable));
    report.findings.insert(report.findings.end(), lost.findings.begin(), lost.findings.end());
  }
  if (file.dropped_events() > 0) {
    report.error(fmt::format("{} events were counted but not recorded", file.dropped_events()));
  }
  if (totals.order.lost_in_gap > 0) {
    report.note(
        fmt::format("{} blocks were freed while nobody looked: in a pause, or in what a ring "
                    "has overwritten",
                    totals.order.lost_in_gap));
  }
  if (totals.order.repaired > 0) {
    report.note(fmt::format("{} order inversions were repaired", totals.order.repaired));
  }
  const std::uint64_t unseen = totals.order.unseen_releases + totals.order.unseen_queries;
  if (unseen > 0) {
    report.note(fmt::format("{} calls name a block that this trace never saw acquired{}", unseen,
                            file.header().parent_image_id != 0 ? " (inherited through fork)" : ""));
  }
  const std::size_t streams = file.streams().size();
  report.summary = fmt::format("trace, {} events in {} stream{}", cli::count(totals.events),
                               cli::count(streams), streams == 1 ? "" : "s");
}

void check_workload(FileReport& report) {
  report.kind = "workload";
  auto opened = formats::WorkloadFile::open(report.path);
  if (!opened) return report.error(opened.error());
  const formats::WorkloadFile& file = *opened;
  cli::Progress progress("check " + report.path, "ops", 0);
  progress.note("running it symbolically");
  if (const formats::Status status = file.validate(); !status) report.error(status.error());
  progress.finish();
  report.summary =
      fmt::format("workload, {} ops in {} lanes, {} sync points", cli::count(file.header().ops),
                  cli::count(file.header().lanes), cli::count(file.header().sync_points));
}

FileReport check_file(const std::string& path) {
  FileReport report;
  report.path = path;
  const auto kind = detect_kind(path);
  if (!kind) {
    report.error(kind.error());
  } else if (kind.value() == FileKind::kTrace) {
    check_trace(report);
  } else {
    check_workload(report);
  }
  return report;
}

std::string place_of(const Finding& f) {
  if (f.offset && !f.field.empty())
    return fmt::format(" (offset {}, field {})", *f.offset, f.field);
  if (f.offset) return fmt::format(" (offset {})", *f.offset);
  if (!f.field.empty()) return fmt::format(" (field {})", f.field);
  return "";
}

void print_text(cli::Output& out, const FileReport& report) {
  const std::size_t errors = report.errors();
  const std::string verdict =
      errors == 0 ? cli::green("ok")
                  : cli::red(fmt::format("{} finding{}", errors, errors == 1 ? "" : "s"));
  out.print("{}: {}{}\n", report.path, verdict,
            report.summary.empty() ? "" : " (" + report.summary + ")");
  for (const Finding& f : report.findings) {
    out.print("  {}: {}{}\n", f.error ? "error" : "note", f.message, place_of(f));
  }
}

Json report_json(const FileReport& report) {
  Json findings = Json::array();
  for (const Finding& f : report.findings) {
    findings.push_back({{"severity", f.error ? "error" : "note"},
                        {"message", f.message},
                        {"offset", f.offset ? Json(*f.offset) : Json()},
                        {"field", f.field.empty() ? Json() : Json(f.field)}});
  }
  return {{"file", report.path},
          {"kind", report.kind},
          {"ok", report.errors() == 0},
          {"findings", std::move(findings)}};
}

int run(const std::vector<std::string>& args) {
  cli::CommandLine line;
  line.synopsis = "check FILE... [--json]";
  line.description =
      "Validates traces and workloads: structure, every event or op, the order of events, and that "
      "nothing was lost. Says where a file breaks: offset and field. Exits with 0 when all is well "
      "and with 1 when there is any finding; notes are not findings.";
  line.examples =
      "  alloctape check app.atrace\n"
      "  alloctape check *.atrace *.awl\n"
      "  alloctape check --json app.awl | jq '.files[0].findings'\n";
  line.options.add_options()("json", "Print JSON (schema alloctape.check/1).");
  line.hidden.add_options()("file", po::value<std::vector<std::string>>()->required(), "");
  line.positional.add("file", -1);
  const auto values = cli::parse(line, args);
  if (!values) return cli::kExitOk;

  const bool json = values->count("json") != 0;
  cli::Output out;
  Json files = Json::array();
  bool all_fine = true;
  for (const std::string& path : (*values)["file"].as<std::vector<std::string>>()) {
    const FileReport report = check_file(path);
    all_fine &= report.errors() == 0;
    if (json) {
      files.push_back(report_json(report));
    } else {
      print_text(out, report);
      out.flush();
    }
  }
  if (json) {
    print_json(out,
               {{"schema", "alloctape.check/1"}, {"ok", all_fine}, {"files", std::move(files)}});
  }
  out.flush();
  return all_fine ? cli::kExitOk : cli::kExitFailure;
}

}  // namespace

const cli::Command kCheckCommand = {"check", "validate traces and workloads", run};

}  // namespace alloctape::analysis

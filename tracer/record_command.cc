// `alloctape record`: runs a program under the tracer and follows what becomes of it.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>

#include "cli/cli.h"
#include "cli/install_paths.h"
#include "cli/progress.h"
#include "cli/units.h"
#include "formats/wire/trace_layout.h"
#include "tracer/commands.h"
#include "tracer/elf_probe.h"
#include "tracer/image_monitor.h"
#include "tracer/live_packer.h"
#include "tracer/record_options.h"
#include "tracer/record_schedule.h"
#include "tracer/record_session.h"
#include "tracer/record_summary.h"
#include "tracer/tick_rate.h"
#include "tracer/traced_program.h"

namespace alloctape::tracer {
namespace {

constexpr std::uint64_t kLiveLineNs = 200'000'000;
constexpr std::uint64_t kRateNs = 1'000'000'000;
// What was left behind often ends a moment after the program itself.
constexpr std::uint64_t kGraceNs = 200'000'000;

bool is_trace(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  char magic[sizeof wire::kTraceMagic] = {};
  file.read(magic, sizeof magic);
  return file && std::memcmp(magic, wire::kTraceMagic, sizeof magic) == 0;
}

// The tracer never opens a file that exists: it would count on, NAME.1, NAME.2. So that "-o NAME"
// means the new recording, an older one of that name makes room; anything else stays.
void replace_older_recording(const std::string& name) {
  if (access(name.c_str(), F_OK) != 0) return;
  if (!is_trace(name)) {
    cli::fail(fmt::format("{} exists and is no trace: it will not be overwritten", name),
              "choose another name with -o");
  }
  unlink(name.c_str());
  for (int i = 1; is_trace(fmt::format("{}.{}", name, i)); ++i) {
    unlink(fmt::format("{}.{}", name, i).c_str());
  }
}

// Found out now, not by a tracer that must stay silent. Directories that depend on the image cannot
// be checked.
void check_output_directory(const std::string& pattern) {
  const auto folder = plain_name(pattern.substr(0, pattern.rfind('/') + 1));
  if (!folder) return;
  if (faccessat(AT_FDCWD, folder->c_str(), W_OK | X_OK, AT_EACCESS) == 0) return;
  cli::fail(fmt::format("cannot write traces to {}: {}", *folder, std::strerror(errno)),
            "choose another place with -o");
}

// One line while the program runs: how much, how fast, how large.
class LiveLine {
 public:
  explicit LiveLine(bool wanted) : wanted_(wanted), progress_("recording", "events", 0) {}

  void update(const ImageMonitor& monitor) {
    const std::uint64_t now = TickRate::now_monotonic_ns();
    if (!wanted_ || now - last_ns_ < kLiveLineNs) return;
    last_ns_ = now;
    const auto live = monitor.live();
    const std::uint64_t events = live.bytes / sizeof(std::uint64_t);  // nearly all of it is events
    rate_ =
        static_cast<double>(events - rate_events_) / (static_cast<double>(now - rate_ns_) / 1e9);
    if (now - rate_ns_ >= kRateNs) {
      rate_ns_ = now;
      rate_events_ = events;
    }
    progress_.note(fmt::format("~{} events, {}/s, {}, RSS {} anon, {} of {} images",
                               cli::count(events), cli::count(static_cast<std::uint64_t>(rate_)),
                               cli::bytes(live.bytes), cli::bytes(live.anon_bytes), live.alive,
                               monitor.images().size()));
  }
  void note(const std::string& text) {
    if (wanted_) progress_.note(text);
  }
  void clear() { progress_.finish(); }

 private:
  bool wanted_;
  cli::Progress progress_;
  std::uint64_t last_ns_ = TickRate::now_monotonic_ns(), rate_ns_ = last_ns_, rate_events_ = 0;
  double rate_ = 0;
};

void warn(const std::string& text) {
  std::fputs(fmt::format("alloctape: warning: {}\n", text).c_str(), stderr);
}

void warn_untraced(const ElfProbe& probe) {
  std::string text = "no process image was traced";
  if (!probe.reason.empty()) {
    text += fmt::format(": {} cannot be traced, since {} (see `alloctape doctor`)", probe.path,
                        probe.reason);
  } else {
    text +=
        ", for no reason known here: perhaps PROGRAM clears LD_PRELOAD, or could not create a "
        "trace "
        "(look for messages of the tracer above)";
  }
  warn(text);
}

void warn_stragglers(const ImageMonitor& monitor) {
  std::string pids;
  std::size_t count = 0;
  for (const Image& image : monitor.images()) {
    if (image.end != ImageEnd::kRunning) continue;
    if (++count <= 8) pids += fmt::format(" {}", image.pid);
  }
  if (count == 0) return;
  warn(fmt::format(
      "{} traced process{} still running, pid{}{}: the traces go on without record, which "
      "leaves now (--wait-all waits)",
      count, count == 1 ? " is" : "es are", pids, count > 8 ? " ..." : ""));
}

int run_record(const std::vector<std::string>& args) {
  const auto parsed = parse_record_options(args);
  if (!parsed) return cli::kExitOk;
  const RecordOptions& settings = *parsed;
  const std::string preload = cli::preload_library(settings.maps);
  if (preload.find_first_of(" :") != std::string::npos) {
    cli::fail(fmt::format("the tracer's library lies at {}: the loader takes spaces and colons in "
                          "LD_PRELOAD as separators",
                          preload),
              "move alloctape to a path without them");
  }
  check_output_directory(settings.output_pattern);
  if (const auto name = plain_name(settings.output_pattern)) replace_older_recording(*name);
  const ElfProbe probe = probe_program(settings.program.front());
  if (!probe.reason.empty()) {
    warn(fmt::format("{} cannot be traced: {}{}{}", probe.path, probe.reason,
                     probe.remedy.empty() ? "" : "; ", probe.remedy));
  }

  RecordSession session;
  const TickRate rate;
  session.set_ticks_per_second(rate.per_second());
  RecordSchedule schedule(settings, session);
  ImageMonitor monitor(session);
  const std::uint64_t start_ns = TickRate::now_monotonic_ns();
  TracedProgram program(settings.program, {preload, settings.output_pattern, session.path(),
                                           settings.tracer_options});
  LivePacker packer(settings.level, settings.pack_when);
  LiveLine live_line(!settings.quiet);
  std::uint64_t end_ns = 0;
  while (!program.all_gone() && !program.told_to_leave()) {
    program.step(ImageMonitor::kPollNs);
    monitor.poll();
    schedule.step(monitor.images(), TickRate::now_monotonic_ns() - start_ns);
    live_line.update(monitor);
    session.set_ticks_per_second(rate.per_second());
    packer.update(monitor.images(), rate.per_second());
    if (!program.ended()) continue;
    const std::uint64_t now = TickRate::now_monotonic_ns();
    if (end_ns == 0) end_ns = now;
    if (!settings.wait_all && now - end_ns >= kGraceNs) break;
  }
  monitor.finish(rate.per_second());
  packer.finish(monitor.images(), rate.per_second(), [&](const std::string& how_far) {
    live_line.note(how_far);
    program.step(0);
    return !program.told_to_leave();
  });
  live_line.clear();

  RecordSummary summary;
  summary.arguments = settings.program;
  summary.exit_status = program.exit_status();
  summary.wall_ns = end_ns - start_ns;
  summary.ticks_per_second = rate.per_second();
  summary.images = summarise(monitor.images(), program.wait_statuses());
  if (monitor.images().empty()) {
    warn_untraced(probe);
  } else if (!settings.quiet) {
    std::fputs(to_text(summary).c_str(), stderr);
  } else {
    std::fputs(warnings_text(summary).c_str(), stderr);
  }
  for (const auto& dump : schedule.dumps()) {
    std::fputs(
        fmt::format("alloctape: the ring of pid {} was saved at {} of anonymous memory: {}\n",
                    dump.pid, cli::bytes(dump.anon_bytes), dump.path)
            .c_str(),
        stderr);
  }
  for (const auto& warning : monitor.warnings()) warn(warning);
  for (const auto& warning : schedule.warnings()) warn(warning);
  for (const auto& warning : packer.warnings()) warn(warning);
  warn_stragglers(monitor);
  if (session.unregistered() > 0) {
    warn(
        fmt::format("{} more process images were traced than record can follow: their traces have "
                    "no memory samples",
                    session.unregistered()));
  }
  if (!settings.json_path.empty()) {
    std::ofstream json(settings.json_path);
    json << to_json(summary);
    if (!json.flush()) warn(fmt::format("cannot write {}", settings.json_path));
  }
  return summary.exit_status;
}

}  // namespace

const cli::Command kRecordCommand = {"record", "run a program and record its malloc calls",
                                     run_record};

}  // namespace alloctape::tracer

// `alloctape stat`: what a program asked of its allocator, in figures.
#include <fmt/format.h>

#include <string>
#include <vector>

#include "analysis/commands.h"
#include "analysis/input.h"
#include "analysis/stat_render.h"
#include "cli/options.h"
#include "cli/progress.h"

namespace alloctape::analysis {
namespace {

namespace po = boost::program_options;

Statistics gather(const std::string& path) {
  if (kind_of(path) == FileKind::kWorkload) {
    const auto file = open_workload(path);
    std::uint64_t words = 0;
    for (const wire::LaneEntry& lane : file.lanes()) words += lane.words;
    cli::Progress progress("stat", "words", words);
    return workload_statistics(file, [&](std::uint64_t done) { progress.update(done); });
  }
  const auto file = open_trace(path);
  cli::Progress progress("stat", "words", file.event_words());
  return trace_statistics(file, [&](std::uint64_t done) { progress.update(done); });
}

void warn_about(const Statistics& s) {
  if (s.corrupt_blocks > 0) {
    cli::warn(
        fmt::format("{} blocks of {} are damaged; their remaining events are missing here: {}",
                    s.corrupt_blocks, s.path, s.first_corruption));
  }
  if (s.dropped_events > 0) {
    cli::warn(
        fmt::format("{} events were not recorded: all figures are lower bounds", s.dropped_events));
  }
  if (s.order.unrepairable > 0) {
    cli::warn(
        fmt::format("{} blocks were acquired at an address that was still live: the live "
                    "figures are not exact",
                    s.order.unrepairable));
  }
}

int run(const std::vector<std::string>& args) {
  cli::CommandLine line;
  line.synopsis = "stat FILE [--json]";
  line.description =
      "Shows what a trace or a workload asks of the allocator: calls by function, requested bytes "
      "and their sizes, live blocks and bytes at the peak and at the end, lifetimes, threads, "
      "frees by another thread than the allocating one, and blocks never freed. Lifetimes and "
      "cross-thread frees are known for traces only.";
  line.examples =
      "  alloctape stat app.atrace\n"
      "  alloctape stat --json app.atrace | jq .live.peak_bytes\n"
      "  alloctape stat app.awl\n";
  line.options.add_options()("json", "Print JSON (schema alloctape.stat/1).");
  line.hidden.add_options()("file", po::value<std::string>()->required(), "");
  line.positional.add("file", 1);
  const auto values = cli::parse(line, args);
  if (!values) return cli::kExitOk;

  const Statistics statistics = gather((*values)["file"].as<std::string>());
  warn_about(statistics);
  cli::Output out;
  if (values->count("json")) {
    print_json(out, to_json(statistics));
  } else {
    print_text(out, statistics);
  }
  out.flush();
  return cli::kExitOk;
}

}  // namespace

const cli::Command kStatCommand = {"stat", "what a trace or workload asks of the allocator", run};

}  // namespace alloctape::analysis

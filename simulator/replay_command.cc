// `alloctape replay`: one run of one workload under one allocator.
#include <cstdio>
#include <nlohmann/json.hpp>
#include <system_error>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "simulator/commands.h"
#include "simulator/replay_memory.h"
#include "simulator/replay_options.h"
#include "simulator/replay_render.h"

namespace alloctape::simulator {
namespace {

namespace po = boost::program_options;

int run_replay_command(const std::vector<std::string>& args) {
  cli::CommandLine line;
  line.synopsis = "replay WORKLOAD [--allocator NAME|PATH.so] [options]";
  line.description =
      "Replays WORKLOAD in a fresh process, with the C library's allocator or another, and "
      "measures "
      "memory, time and the latency of each kind of call. An allocator that crashes or hangs gives "
      "a "
      "result that says where.";
  line.examples =
      "  alloctape replay server.awl --allocator jemalloc\n"
      "  alloctape replay server.awl --allocator 'jemalloc MALLOC_CONF=narenas:2'\n"
      "  alloctape replay server.awl --allocator ./libmine.so --json result.json\n";
  line.options.add_options()(
      "allocator,a", po::value<std::string>()->value_name("NAME")->default_value("glibc"),
      "an allocator that `alloctape allocators` lists, or the path of a library; settings may "
      "follow as K=V in the same argument")(
      "by-size", "latencies by size of block, too (the JSON has them always)")(
      "json", po::value<std::string>()->value_name("FILE"),
      "write the result as JSON; - is standard output, and nothing else goes there then");
  add_run_options(line.options);
  line.hidden.add_options()("workload", po::value<std::string>());
  line.positional.add("workload", 1);
  const auto values = cli::parse(line, args);
  if (!values) return cli::kExitOk;
  if (!values->count("workload")) cli::usage_error("replay needs a workload");

  const RunSettings settings = run_settings(*values);
  const Candidate candidate = candidate_or_fail((*values)["allocator"].as<std::string>());
  const formats::WorkloadFile workload = open_workload((*values)["workload"].as<std::string>());
  formats::RunResult run;
  try {
    std::uint64_t words = 0;
    for (const wire::LaneEntry& lane : workload.lanes()) words += lane.words;
    cli::Progress progress("replaying under " + candidate.label, "words", words);
    run = run_replay(workload, candidate, settings,
                     [&](std::uint64_t done, std::uint64_t) { progress.update(done); });
    if (values->count("syscalls")) add_syscalls(workload, candidate, settings, run);
    if (values->count("calibrate"))
      if (const auto harness = harness_memory(workload, settings)) apply_calibration(*harness, run);
  } catch (const std::system_error& error) {
    cli::fail(std::string("the replay could not be started: ") + error.what());
  }

  const std::string json = values->count("json") ? (*values)["json"].as<std::string>() : "";
  if (json != "-") {
    cli::Output out;
    out.write(render_run(run, values->count("by-size") != 0));
    out.flush();
  }
  if (!json.empty()) write_json(json, formats::to_json(run).dump(2));
  if (run.status == formats::RunStatus::kOk) return cli::kExitOk;
  if (json == "-")
    std::fprintf(stderr, "alloctape: %s %s: %s\n", candidate.label.c_str(),
                 formats::to_string(run.status), run.failure ? run.failure->message.c_str() : "");
  return cli::kExitFailure;
}

}  // namespace

const cli::Command kReplayCommand = {
    "replay", "replay a workload under an allocator, and measure it", run_replay_command};

}  // namespace alloctape::simulator

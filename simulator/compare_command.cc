// `alloctape compare`: workloads x candidates x rounds, each run in a process of its own, in an
// order that favours nobody.
#include <fmt/format.h>
#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <system_error>

#include "cli/cli.h"
#include "cli/install_paths.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "simulator/commands.h"
#include "simulator/compare_render.h"
#include "simulator/environment.h"
#include "simulator/replay_memory.h"
#include "simulator/replay_options.h"

namespace alloctape::simulator {
namespace {

namespace po = boost::program_options;

using Texts = std::vector<std::string>;

std::vector<Candidate> chosen_candidates(const po::variables_map& values) {
  Texts texts;
  if (values.count("allocators")) {
    std::istringstream list(values["allocators"].as<std::string>());
    for (std::string one; std::getline(list, one, ',');)
      if (!one.empty()) texts.push_back(one);
  }
  if (values.count("allocator"))
    for (const std::string& one : values["allocator"].as<Texts>()) texts.push_back(one);
  if (texts.empty()) texts.push_back("all");

  std::vector<Candidate> candidates;
  auto add = [&](const std::string& text) {
    Candidate candidate = candidate_or_fail(text);
    for (const Candidate& other : candidates)
      if (other.label == candidate.label)
        cli::usage_error("the candidate \"" + candidate.label + "\" was given twice");
    candidates.push_back(std::move(candidate));
  };
  for (const std::string& text : texts) {
    if (text != "all") {
      add(text);
      continue;
    }
    for (const KnownAllocator& known : known_allocators())
      if (known.installed) add(known.name);
  }
  return candidates;
}

struct PlannedRun {
  std::size_t workload, candidate;
  std::uint32_t round;
};

// Every round has each pair once, in an order of its own: drift of the machine (heat, other load)
// falls on all candidates alike.
std::vector<PlannedRun> plan(std::size_t workloads, std::size_t candidates, std::uint32_t rounds,
                             std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<PlannedRun> runs;
  for (std::uint32_t round = 1; round <= rounds; ++round) {
    const auto first = static_cast<std::ptrdiff_t>(runs.size());
    for (std::size_t w = 0; w < workloads; ++w)
      for (std::size_t c = 0; c < candidates; ++c) runs.push_back({w, c, round});
    std::shuffle(runs.begin() + first, runs.end(), random);
  }
  return runs;
}

bool all_workloads_served(const formats::Comparison& comparison) {
  return std::all_of(
      comparison.workloads.begin(), comparison.workloads.end(), [&](const std::string& workload) {
        return std::any_of(
            comparison.runs.begin(), comparison.runs.end(), [&](const formats::RunResult& run) {
              return run.workload == workload && run.status == formats::RunStatus::kOk;
            });
      });
}

void describe(cli::CommandLine& line) {
  line.synopsis = "compare WORKLOAD... [--allocators A,B,C] [options]";
  line.description =
      "Replays each WORKLOAD under each candidate, several rounds in shuffled order, each run in a "
      "fresh process, and prints a table of medians. A candidate that crashes or hangs keeps its "
      "row, with the reason.";
  line.examples =
      "  alloctape compare server.awl\n"
      "  alloctape compare server.awl --allocators glibc,jemalloc,mimalloc --rounds 10\n"
      "  alloctape compare server.awl -a jemalloc -a 'jemalloc MALLOC_CONF=narenas:2'\n";
  line.options.add_options()(
      "allocators", po::value<std::string>()->value_name("A,B,C"),
      "candidates, by name or path, or `all` that are installed (the default); the first is what "
      "the others' ratios refer to")(
      "allocator,a", po::value<Texts>()->value_name("NAME")->composing(),
      "one more candidate; settings may follow as K=V in the same argument")(
      "rounds", po::value<int>()->value_name("N")->default_value(5),
      "runs of each candidate on each workload")(
      "seed", po::value<std::uint64_t>()->value_name("N"), "of the order of runs")(
      "rank-all", "mark the best also among runs that were not faithful to the recording")(
      "json", po::value<std::string>()->value_name("FILE"),
      "write all runs as JSON; - is standard output, and nothing else goes there then");
  add_run_options(line.options);
  line.hidden.add_options()("workload", po::value<Texts>());
  line.positional.add("workload", -1);
}

int run_compare_command(const std::vector<std::string>& args) {
  cli::CommandLine line;
  describe(line);
  const auto values = cli::parse(line, args);
  if (!values) return cli::kExitOk;
  if (!values->count("workload")) cli::usage_error("compare needs a workload");
  const int rounds = (*values)["rounds"].as<int>();
  if (rounds < 1 || rounds > 100'000)
    cli::usage_error(fmt::format("--rounds {}: at least one round is needed", rounds));

  const RunSettings settings = run_settings(*values);
  const std::vector<Candidate> candidates = chosen_candidates(*values);
  formats::Comparison comparison;
  comparison.rounds = static_cast<std::uint32_t>(rounds);
  comparison.seed =
      values->count("seed") ? (*values)["seed"].as<std::uint64_t>() : std::random_device{}();
  comparison.environment = describe_machine();
  comparison.environment.alloctape_version = cli::version();
  for (const Candidate& candidate : candidates) comparison.candidates.push_back(candidate.label);
  std::vector<formats::WorkloadFile> workloads;
  for (const std::string& path : (*values)["workload"].as<Texts>()) {
    if (std::count(comparison.workloads.begin(), comparison.workloads.end(), path))
      cli::usage_error("the workload " + path + " was given twice");
    workloads.push_back(open_workload(path));
    comparison.workloads.push_back(path);
  }

  const auto runs = plan(workloads.size(), candidates.size(), comparison.rounds, comparison.seed);
  cli::Progress progress("comparing", "runs", runs.size());
  try {
    for (std::size_t i = 0; i < runs.size(); ++i) {
      const Candidate& candidate = candidates[runs[i].candidate];
      const formats::WorkloadFile& workload = workloads[runs[i].workload];
      auto show = [&](std::uint64_t done, std::uint64_t total) {
        progress.note(fmt::format("run {} of {} (round {}): {} on {}, {}%", i + 1, runs.size(),
                                  runs[i].round, candidate.label, workload.path(),
                                  total ? std::min<std::uint64_t>(100, done * 100 / total) : 0));
      };
      show(0, 1);
      comparison.runs.push_back(run_replay(workload, candidate, settings, show));
      comparison.runs.back().workload = comparison.workloads[runs[i].workload];
      comparison.runs.back().round = runs[i].round;
    }
    // One pass for each pair: what is counted does not change from round to round as times do.
    for (formats::RunResult& run : comparison.runs) {
      if (!values->count("syscalls") || run.round != 1) continue;
      const auto w =
          std::find(comparison.workloads.begin(), comparison.workloads.end(), run.workload);
      const auto c =
          std::find(comparison.candidates.begin(), comparison.candidates.end(), run.candidate.name);
      add_syscalls(workloads[static_cast<std::size_t>(w - comparison.workloads.begin())],
                   candidates[static_cast<std::size_t>(c - comparison.candidates.begin())],
                   settings, run);
    }
    for (std::size_t w = 0; w < workloads.size() && values->count("calibrate"); ++w)
      if (const auto harness = harness_memory(workloads[w], settings))
        for (formats::RunResult& run : comparison.runs)
          if (run.workload == comparison.workloads[w]) apply_calibration(*harness, run);
  } catch (const std::system_error& error) {
    cli::fail(std::string("a replay could not be started: ") + error.what());
  }
  progress.finish();

  const std::string json = values->count("json") ? (*values)["json"].as<std::string>() : "";
  if (json != "-") {
    cli::Output out;
    out.write(render_comparison(comparison, values->count("rank-all") != 0));
    out.flush();
  }
  if (!json.empty()) write_json(json, formats::to_json(comparison).dump(1));
  return all_workloads_served(comparison) ? cli::kExitOk : cli::kExitFailure;
}

}  // namespace

const cli::Command kCompareCommand = {
    "compare", "replay workloads under several allocators, and compare them", run_compare_command};

}  // namespace alloctape::simulator

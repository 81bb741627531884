#include "simulator/replay_options.h"

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>
#include <tuple>
#include <utility>

#include "cli/cli.h"
#include "cli/install_paths.h"
#include "cli/output.h"
#include "cli/units.h"

namespace alloctape::simulator {

namespace po = boost::program_options;

namespace {

// The whole of `text` as a number of 1 to `most`.
std::optional<std::uint32_t> number_in(const std::string& text, std::uint32_t most) {
  std::uint32_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc{} || end != text.data() + text.size() || n == 0 || n > most)
    return std::nullopt;
  return n;
}

std::pair<const char*, std::errc> parsed(const char* from, const char* end, int& to) {
  const auto [at, error] = std::from_chars(from, end, to);
  return {at, error};
}

void choose_touch(const std::string& text, RunSettings& settings) {
  if (text == "none") {
    settings.touch = Touch::kNone;
  } else if (text == "page") {
    settings.touch = Touch::kPage;
  } else if (text == "full") {
    settings.touch = Touch::kFull;
  } else if (const auto n = text.empty() || text.back() != '%'
                                ? std::nullopt
                                : number_in(text.substr(0, text.size() - 1), 100)) {
    settings.touch = Touch::kPercent;
    settings.touch_percent = *n;
  } else {
    cli::usage_error("--touch " + text + ": there are none, page, full, and 1% to 100%");
  }
}

void choose_timing(const std::string& text, RunSettings& settings) {
  constexpr std::uint32_t kUsual = 64, kMost = 1'000'000;
  settings.timed = text != "none";
  if (text == "all" || text == "none") return;
  settings.sample_every = kUsual;
  if (text == "sample") return;
  const auto n = text.rfind("sample=", 0) == 0 ? number_in(text.substr(7), kMost) : std::nullopt;
  if (!n) cli::usage_error("--timing " + text + ": there are all, sample, sample=N and none");
  settings.sample_every = *n;
}

// A plain number counts calls, one with a letter of sizes bytes, one with a unit of time that time.
void choose_purge(const std::string& text, RunSettings& settings) {
  if (const auto n = number_in(text, 0xffffffff)) {
    settings.purge_calls = *n;
  } else if (const auto bytes = cli::parse_bytes(text); bytes && *bytes != 0) {
    settings.purge_bytes = *bytes;
  } else if (const auto ns = cli::parse_duration_ns(text); ns && *ns != 0) {
    settings.purge_ns = *ns;
  } else {
    cli::usage_error("--trim-every " + text +
                     ": this is neither a number of calls, nor bytes (64M), nor a time (100ms)");
  }
}

void choose_huge_pages(const std::string& text, RunSettings& settings) {
  using HugePages = RunSettings::HugePages;
  if (text != "system" && text != "off" && text != "on")
    cli::usage_error("--hugepages " + text + ": there are system, off and on");
  settings.huge_pages = text == "off"  ? HugePages::kOff
                        : text == "on" ? HugePages::kOn
                                       : HugePages::kSystem;
}

std::vector<std::uint16_t> cpu_list(const std::string& text) {
  constexpr int kCpuLimit = 1024;
  std::vector<std::uint16_t> cpus;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    int first = -1, last = -1;
    const char* end = part.data() + part.size();
    auto [at, error] = std::from_chars(part.data(), end, first);
    last = first;
    if (error == std::errc{} && at != end && *at == '-')
      std::tie(at, error) = parsed(at + 1, end, last);
    if (error != std::errc{} || at != end || first < 0 || last < first || last >= kCpuLimit)
      cli::usage_error("--cpus " + text + ": this must be a list of CPUs such as 0,2-3");
    for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(static_cast<std::uint16_t>(cpu));
  }
  if (cpus.empty() || cpus.size() > 256)
    cli::usage_error("--cpus " + text + ": 1 to 256 CPUs are wanted");
  return cpus;
}

}  // namespace

void add_run_options(po::options_description& options) {
  options.add_options()("touch",
                        po::value<std::string>()->value_name("MODE")->default_value("page"),
                        "what to write to new blocks, outside the timed window: none, page (a byte "
                        "in each page), full, "
                        "or N% (a byte in each page of the first N percent of each block)")(
      "touch-calloc", "write to the zeroed blocks of calloc, too")(
      "touch-reads", "read a byte in each page of a block before it is released or resized")(
      "timing", po::value<std::string>()->value_name("MODE")->default_value("all"),
      "latency of every call (all), of one in N (sample=N; sample: 64), or none: then wall and CPU "
      "time are undisturbed")("verify",
                              "check every answer: alignment, overlap with live blocks, zeroed "
                              "memory, usable size, and that "
                              "the contents of blocks stay what they were; touches all memory, and "
                              "says nothing about speed")(
      "timeout", po::value<std::string>()->value_name("TIME")->default_value("60s"),
      "a run in which no call finishes for so long is ended and called hung")(
      "usable",
      "keep books of usable bytes and show them along the run (asks malloc_usable_size of each "
      "new block)")("syscalls",
                    "count and time system calls (brk, mmap, munmap, mremap, madvise, mprotect, "
                    "mincore, futex) by "
                    "thread, in a further, untimed pass")(
      "calibrate",
      "make a run with an allocator that does nothing, too, and take what it shows "
      "for the harness' own "
      "memory")("settle", po::value<std::string>()->value_name("TIME"),
                "look at memory again after everything was freed, and so long a pause")(
      "trim-every", po::value<std::string>()->value_name("N|BYTES|TIME"),
      "make the allocator give memory back (malloc_trim, or what it has in its place) after N "
      "calls "
      "of a lane, so many acquired bytes (64M, with a unit) or so much time (100ms)")(
      "tunables", po::value<std::vector<std::string>>()->value_name("T")->composing(),
      "tunables of glibc's, such as glibc.malloc.arena_max=1; may be given several times")(
      "mallopt", po::value<std::vector<std::string>>()->value_name("M_X=V")->composing(),
      "call mallopt before the replay, such as M_MMAP_THRESHOLD=1M; may be given several times")(
      "hugepages", po::value<std::string>()->value_name("MODE")->default_value("system"),
      "transparent huge pages: system (as they are), off (for this process), on (ask the allocator "
      "for them)")("cpus", po::value<std::string>()->value_name("LIST"),
                   "run on these CPUs (0,2-3); with as many as lanes, each lane on one of its own")(
      "env", po::value<std::vector<std::string>>()->value_name("K=V")->composing(),
      "environment of the replayed process; may be given several times");
  options.add_options()("maps",
                        po::value<std::string>()->value_name("WHAT")->default_value("replay"),
                        "the program's own mappings, where the workload has them: replay or skip");
}

RunSettings run_settings(const po::variables_map& values) {
  RunSettings settings;
  settings.replayer = cli::replayer_program();
  choose_touch(values["touch"].as<std::string>(), settings);
  settings.touch_calloc = values.count("touch-calloc") != 0;
  settings.touch_reads = values.count("touch-reads") != 0;
  const auto maps = values["maps"].as<std::string>();
  if (maps != "replay" && maps != "skip")
    cli::usage_error("--maps " + maps + ": there are replay and skip");
  settings.maps = maps == "replay";
  choose_timing(values["timing"].as<std::string>(), settings);
  settings.verify = values.count("verify") != 0;
  settings.usable = values.count("usable") != 0;
  if (values.count("settle")) {
    const auto pause = values["settle"].as<std::string>();
    const auto ns = cli::parse_duration_ns(pause);
    if (!ns) cli::usage_error("--settle " + pause + ": this is no duration");
    settings.settle_ns = *ns;
  }
  if (values.count("trim-every")) choose_purge(values["trim-every"].as<std::string>(), settings);
  if (values.count("mallopt"))
    for (const std::string& one : values["mallopt"].as<std::vector<std::string>>()) {
      const auto mallopt = parse_mallopt(one);
      if (!mallopt)
        cli::usage_error("--mallopt " + one +
                         ": this must be a parameter of mallopt with its value, such as "
                         "M_MMAP_THRESHOLD=1M");
      settings.mallopt.push_back(*mallopt);
    }
  choose_huge_pages(values["hugepages"].as<std::string>(), settings);
  if (values.count("cpus")) settings.cpus = cpu_list(values["cpus"].as<std::string>());
  const auto text = values["timeout"].as<std::string>();
  const auto timeout = cli::parse_duration_ns(text);
  if (!timeout || *timeout == 0) cli::usage_error("--timeout " + text + ": this is no duration");
  settings.timeout_ns = *timeout;
  if (values.count("env")) {
    for (const std::string& one : values["env"].as<std::vector<std::string>>()) {
      const auto setting = parse_setting(one);
      if (!setting)
        cli::usage_error("--env " + one + ": this must be NAME=VALUE, and not LD_PRELOAD (choose " +
                         "the allocator with --allocator)");
      settings.environment.push_back(*setting);
    }
  }
  if (values.count("tunables"))
    for (const std::string& one : values["tunables"].as<std::vector<std::string>>()) {
      if (one.rfind("glibc.", 0) != 0 || one.find('=') == std::string::npos)
        cli::usage_error("--tunables " + one + ": this must be glibc.NAME=VALUE");
      add_tunables(settings.environment, one);
    }
  return settings;
}

formats::WorkloadFile open_workload(const std::string& path) {
  auto file = formats::WorkloadFile::open(path);
  if (!file) {
    const bool other = file.error().code == formats::ErrorCode::kNotThisFormat;
    cli::fail(file.error().to_string(),
              other ? "A workload is made from a trace: alloctape convert TRACE -o WORKLOAD" : "");
  }
  if (const auto valid = file->validate(); !valid)
    cli::fail(valid.error().to_string(),
              "This workload cannot be replayed. Convert its trace again.");
  return std::move(file).value();
}

Candidate candidate_or_fail(const std::string& text) {
  // Our own, which does nothing: not for the list of allocators, but good to measure with.
  if (text == kNoop) {
    auto noop = parse_candidate(cli::noop_allocator());
    if (!noop) cli::fail(noop.error().message);
    noop->label = noop->name = kNoop;
    return std::move(noop).value();
  }
  auto candidate = parse_candidate(text);
  if (!candidate)
    cli::fail(candidate.error().message, "`alloctape allocators` lists what is installed here.");
  return std::move(candidate).value();
}

std::optional<std::uint64_t> harness_memory(const formats::WorkloadFile& workload,
                                            RunSettings settings) {
  settings.touch = Touch::kNone;
  settings.verify = settings.usable = false;
  settings.settle_ns = settings.purge_calls = settings.purge_bytes = settings.purge_ns = 0;
  settings.environment.clear();
  settings.mallopt.clear();
  const formats::RunResult run = run_replay(workload, candidate_or_fail(kNoop), settings, {});
  return run.status == formats::RunStatus::kOk ? run.peak_rss_bytes : std::nullopt;
}

void add_syscalls(const formats::WorkloadFile& workload, const Candidate& candidate,
                  RunSettings settings, formats::RunResult& run) {
  settings.timed = settings.verify = settings.usable = false;
  settings.syscalls = true;
  settings.settle_ns = 0;
  formats::RunResult pass = run_replay(workload, candidate, settings, {});
  run.syscalls = std::move(pass.syscalls);
  if (!run.syscalls->available)
    run.notes.emplace_back("system calls could not be counted: the process cannot be traced here");
  else if (pass.status != formats::RunStatus::kOk)
    run.notes.push_back("the pass that counted system calls came to a bad end: " +
                        (pass.failure ? pass.failure->message : std::string("unknown")));
}

void write_json(const std::string& path, const std::string& text) {
  if (path == "-") {
    cli::Output out;
    out.write(text);
    out.write("\n");
    out.flush();
    return;
  }
  std::ofstream file(path);
  file << text << '\n';
  file.close();
  if (!file) cli::fail(path + ": cannot be written: " + std::strerror(errno));
}

}  // namespace alloctape::simulator

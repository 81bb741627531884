// `alloctape pack`: a trace made small, or large again.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/units.h"
#include "tracer/commands.h"
#include "tracer/trace_rewrite.h"

namespace alloctape::tracer {
namespace {

namespace po = boost::program_options;

struct Settings {
  std::string path, output;
  int level = formats::kDefaultPackLevel;
  bool repack = false, unpack = false, keep = false, json = false;
};

std::optional<Settings> parse_settings(const std::vector<std::string>& args) {
  cli::CommandLine line;
  line.synopsis = "pack TRACE [-o OUT] [options]";
  line.description =
      "Rewrites a trace compactly: its events as compressed columns, in blocks that can be read "
      "one "
      "by one, with an index of the threads and times that they hold. Every command reads packed "
      "traces as it reads others; nothing is lost, and --unpack brings the plain blocks back. "
      "`record` packs what it records by itself.";
  line.examples =
      "  alloctape pack app.atrace\n"
      "  alloctape pack app.atrace -o small.atrace --level 9\n"
      "  alloctape pack --unpack small.atrace -o plain.atrace\n";
  line.options.add_options()("output,o", po::value<std::string>()->value_name("OUT"),
                             "Write there, and leave TRACE alone (it may even be live).")(
      "level", po::value<int>()->value_name("N"),
      "Of zstd, 1 to 19; 3 unless given. Blocks that are packed already are packed anew.")(
      "keep", "Keep the old trace as TRACE.orig.")("unpack", "The other way: plain event blocks.")(
      "json", "Print JSON (schema alloctape.pack/1).");
  line.hidden.add_options()("file", po::value<std::string>()->required(), "");
  line.positional.add("file", 1);
  const auto values = cli::parse(line, args);
  if (!values) return std::nullopt;
  Settings s;
  s.path = (*values)["file"].as<std::string>();
  if (values->count("output")) s.output = (*values)["output"].as<std::string>();
  if (values->count("level")) {
    s.level = (*values)["level"].as<int>();
    s.repack = true;
    if (s.level < 1 || s.level > formats::kMaxPackLevel) {
      cli::usage_error(
          fmt::format("--level {}: from 1 (fast) to {} (small)", s.level, formats::kMaxPackLevel));
    }
  }
  s.keep = values->count("keep");
  s.unpack = values->count("unpack");
  s.json = values->count("json");
  if (s.keep && !s.output.empty()) cli::usage_error("--keep and -o: with -o, TRACE stays anyway");
  if (s.unpack && s.repack) cli::usage_error("--unpack and --level exclude one another");
  return s;
}

// What cannot be read would not be in the new file.
void refuse_damage(const formats::TraceFile& trace, const Settings& s) {
  const std::size_t findings = trace.warnings().size();
  if (findings == 0 && !trace.truncated()) return;
  const std::string what = findings == 0 ? fmt::format("{} ends inside a block", s.path)
                                         : fmt::format("{} is damaged: {}", s.path,
                                                       trace.warnings().front().to_string());
  if (s.output.empty() && !s.keep) {
    cli::fail(what, "What cannot be read would be gone for good: give -o OUT, or --keep.");
  }
  cli::warn(fmt::format("{}; the new file holds what can be read", what));
}

double per_event(std::uint64_t bytes, std::uint64_t events) {
  return static_cast<double>(bytes) / static_cast<double>(events);
}

void print(const Settings& s, const std::string& result, const formats::PackTotals& t) {
  if (s.json) {
    nlohmann::ordered_json json;
    json["schema"] = "alloctape.pack/1";
    json["file"] = result;
    json["events"] = t.events;
    json["bytes_before"] = t.bytes_before;
    json["bytes_after"] = t.bytes_after;
    json["bytes_per_event"] = nullptr;
    if (t.events != 0) json["bytes_per_event"] = per_event(t.bytes_after, t.events);
    json["packed_blocks"] = t.packed_blocks + t.copied_blocks;
    json["plain_blocks"] = t.raw_blocks;
    std::fputs((json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n").c_str(),
               stdout);
    return;
  }
  std::string text = fmt::format("{}: {} events, {} -> {}", result, cli::count(t.events),
                                 cli::bytes(t.bytes_before), cli::bytes(t.bytes_after));
  if (t.events != 0) {
    text += fmt::format(" ({:.2f} -> {:.2f} bytes per event)", per_event(t.bytes_before, t.events),
                        per_event(t.bytes_after, t.events));
  }
  std::fputs((text + "\n").c_str(), stdout);
}

int run_pack(const std::vector<std::string>& args) {
  const auto parsed = parse_settings(args);
  if (!parsed) return cli::kExitOk;
  const Settings& s = *parsed;
  const auto opened = formats::TraceFile::open(s.path);
  if (!opened) cli::fail(opened.error().to_string());
  formats::TraceFile trace = opened.value();
  if (s.output.empty() && image_is_running(trace.header(), s.path)) {
    cli::fail(fmt::format("process {} is still writing {}", trace.header().pid, s.path),
              "Give -o OUT for a packed copy of what there is so far.");
  }
  refuse_damage(trace, s);
  RewriteOptions options;
  options.pack.level = s.level;
  options.pack.repack = s.repack;
  options.pack.unpack = s.unpack;
  options.output = s.output;
  if (s.keep) {
    options.keep_as = s.path + ".orig";
    if (::access(options.keep_as.c_str(), F_OK) == 0) {
      cli::fail(fmt::format("{} exists already", options.keep_as),
                "Move it away, or leave --keep.");
    }
  }
  cli::Progress progress(s.unpack ? "unpack" : "pack", "words", trace.event_words());
  options.pack.progress = [&](std::uint64_t words) { progress.update(words); };
  const auto totals = rewrite_trace(trace, options);
  progress.finish();
  if (!totals) {
    cli::fail(totals.error().to_string(), fmt::format("{} is as it was.", s.path));
  }
  print(s, s.output.empty() ? s.path : s.output, totals.value());
  return cli::kExitOk;
}

}  // namespace

const cli::Command kPackCommand = {"pack", "make a trace small: compressed columns and an index",
                                   run_pack};

}  // namespace alloctape::tracer

// `alloctape dump`: every event of a trace in its true order, every op of a workload lane by lane.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "analysis/commands.h"
#include "analysis/dump_format.h"
#include "analysis/input.h"
#include "analysis/lane_cursor.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/suggest.h"
#include "cli/units.h"
#include "formats/heap_walk.h"

namespace alloctape::analysis {
namespace {

namespace po = boost::program_options;
using formats::Block;
using formats::Event;

struct Filter {
  std::vector<bool> ops;               // by opcode; empty = all
  std::vector<std::uint64_t> threads;  // sorted; empty = all
  std::uint64_t from_ns = 0, to_ns = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t limit = std::numeric_limits<std::uint64_t>::max();

  bool wants_op(wire::Op op) const { return ops.empty() || ops[static_cast<std::size_t>(op)]; }
  bool wants_thread(std::uint64_t thread) const {
    return threads.empty() || std::binary_search(threads.begin(), threads.end(), thread);
  }
};

// Ends a walk from within: what was asked for has been printed.
struct Enough {};

class DumpVisitor : public formats::HeapVisitor {
 public:
  DumpVisitor(const formats::TraceFile& file, const Filter& filter, EventPrinter& printer)
      : file_(file), filter_(filter), printer_(printer) {}

  void on_acquire(const Event& event, Block& /*block*/) override { show(event); }
  void on_release(const Event& event, Block& /*block*/) override { show(event); }
  void on_resize(const Event& event, Block& /*block*/, std::uint64_t /*old_size*/) override {
    show(event);
  }
  void on_query(const Event& event, Block& /*block*/) override { show(event); }
  void on_null(const Event& event) override { show(event); }
  void on_failed(const Event& event, Block* /*block*/) override { show(event); }
  void on_unseen(const Event& event, Block* /*block*/) override { show(event); }
  void on_meta(const Event& event) override { show(event); }
  void on_map(const Event& event) override { show(event); }

  // Marks up to `stamp` that have not been printed. No thread of the program stands behind a mark
  // by its index, so a choice of threads leaves them out.
  void show_marks(std::uint64_t stamp) {
    const auto& marks = file_.marks();
    for (; next_mark_ < marks.size() && marks[next_mark_].stamp <= stamp; ++next_mark_) {
      const std::uint64_t ns = file_.to_ns(marks[next_mark_].stamp);
      if (!filter_.wants_op(wire::Op::kMark) || !filter_.threads.empty() || ns < filter_.from_ns ||
          ns > filter_.to_ns) {
        continue;
      }
      printer_.print(marks[next_mark_]);
      if (++printed_ >= filter_.limit) throw Enough{};
    }
  }

 private:
  // Repairs may deliver an event a little after later ones: only a time well beyond the end of the
  // range tells that nothing of it can follow.
  static constexpr std::uint64_t kSlackNs = 1'000'000;

  void show(const Event& event) {
    if (printed_ >= filter_.limit) throw Enough{};
    show_marks(event.stamp);
    const std::uint64_t ns = file_.to_ns(event.stamp);
    if (ns > filter_.to_ns) {
      if (ns - filter_.to_ns > kSlackNs) throw Enough{};
      return;
    }
    if (ns < filter_.from_ns || !filter_.wants_op(event.op) ||
        !filter_.wants_thread(static_cast<std::uint32_t>(event.thread))) {
      return;
    }
    printer_.print(event);
    if (++printed_ >= filter_.limit) throw Enough{};
  }

  const formats::TraceFile& file_;
  const Filter& filter_;
  EventPrinter& printer_;
  std::uint64_t printed_ = 0;
  std::size_t next_mark_ = 0;
};

// The blocks in which something that passes the filter can stand. Times are rounded, and what repairs
// move is a little earlier or later than its stamp.
formats::BlockRange blocks_wanted(const formats::TraceFile& file, const Filter& filter) {
  constexpr std::uint64_t kMarginNs = 2'000'000;
  formats::BlockRange range;
  const std::uint64_t start = file.header().start_ticks >> file.header().clock_shift;
  const auto stamp_at = [&](std::uint64_t ns) {
    const std::uint64_t units = file.ns_to_units(ns);
    return units > range.last_stamp - start ? range.last_stamp : start + units;
  };
  if (filter.from_ns > kMarginNs) range.first_stamp = stamp_at(filter.from_ns - kMarginNs);
  if (filter.to_ns < std::numeric_limits<std::uint64_t>::max() - kMarginNs) {
    range.last_stamp = stamp_at(filter.to_ns + kMarginNs);
  }
  if (!filter.threads.empty()) {
    range.first_thread = static_cast<std::uint32_t>(filter.threads.front());
    range.last_thread = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(filter.threads.back(), range.last_thread));
  }
  return range;
}

void dump_trace(const std::string& path, DumpFormat format, const Filter& filter) {
  const auto file = open_trace(path);
  cli::Output out;
  EventPrinter printer(out, format, file);
  printer.header();
  DumpVisitor visitor(file, filter, printer);
  formats::WalkOptions options;
  options.range = blocks_wanted(file, filter);
  formats::HeapWalk walk(file, options);
  try {
    const formats::WalkTotals totals = walk.run(visitor);
    visitor.show_marks(std::numeric_limits<std::uint64_t>::max());
    out.flush();
    if (totals.corrupt_blocks > 0) {
      cli::warn(fmt::format("{} damaged blocks ended early: {}", totals.corrupt_blocks,
                            totals.first_corruption));
    }
  } catch (const Enough&) {
    out.flush();
  }
}

// Which thread runs at a word of a lane. Threads of one lane run one after another.
class LaneThreads {
 public:
  LaneThreads(const formats::WorkloadFile& file, std::uint32_t lane, const Filter& filter) {
    if (filter.threads.empty()) return;
    for (const wire::ThreadEntry& thread : file.threads()) {
      if (thread.lane == lane) threads_.push_back(thread);
    }
    std::stable_sort(threads_.begin(), threads_.end(),
                     [](const auto& a, const auto& b) { return a.first_word < b.first_word; });
  }
  // REQUIRES: words asked for never fall.
  bool wanted(const Filter& filter, std::uint64_t word) {
    if (filter.threads.empty()) return true;
    while (at_ < threads_.size() && word >= threads_[at_].end_word) ++at_;
    return at_ < threads_.size() && word >= threads_[at_].first_word &&
           filter.wants_thread(threads_[at_].thread);
  }

 private:
  std::vector<wire::ThreadEntry> threads_;
  std::size_t at_ = 0;
};

void dump_workload(const std::string& path, DumpFormat format, const Filter& filter) {
  const auto file = open_workload(path);
  cli::Output out;
  OpPrinter printer(out, format);
  printer.header();
  const auto lanes = static_cast<std::uint32_t>(file.lanes().size());
  std::uint64_t printed = 0;
  // The prologue, last in the table, comes first: its blocks are there when lane 0 starts.
  for (std::uint32_t i = 0; i < lanes && printed < filter.limit; ++i) {
    const std::uint32_t lane = i == 0 ? lanes - 1 : i - 1;
    const bool prologue = lane == lanes - 1;
    if (prologue && (!filter.threads.empty() || filter.from_ns > 0)) continue;
    LaneCursor cursor(file, lane);
    LaneThreads threads(file, lane, filter);
    LaneOp op;
    std::uint64_t now_ns = 0;
    while (printed < filter.limit && cursor.next(op)) {
      if (op.view.op == wire::Op::kTime) now_ns = op.view.size;
      if (now_ns > filter.to_ns) break;
      if (now_ns < filter.from_ns || !filter.wants_op(op.view.op)) continue;
      if (!prologue && !threads.wanted(filter, op.first_word)) continue;
      printer.print(prologue ? std::nullopt : std::optional<std::uint32_t>(lane), op);
      ++printed;
    }
    if (cursor.error()) {
      out.flush();
      fail_on(*cursor.error());
    }
  }
  out.flush();
}

std::vector<bool> parse_ops(const std::vector<std::string>& names) {
  std::vector<bool> ops(wire::kOpLimit);
  std::vector<std::string> known;
  for (const std::string& name : names) {
    bool found = false;
    for (int i = 1; i < wire::kOpLimit; ++i) {
      const char* op_name = wire::traits(static_cast<wire::Op>(i)).name;
      if (op_name == nullptr) continue;
      known.emplace_back(op_name);
      if (name == op_name) ops[static_cast<std::size_t>(i)] = found = true;
    }
    if (found) continue;
    const std::string suggestion = cli::closest(name, known);
    cli::usage_error(fmt::format("unknown op '{}'{}", name,
                                 suggestion.empty() ? "" : "; did you mean '" + suggestion + "'?"));
  }
  return ops;
}

std::uint64_t time_option(const po::variables_map& values, const char* name) {
  const auto text = values[name].as<std::string>();
  const auto ns = cli::parse_duration_ns(text);
  if (!ns)
    cli::usage_error(fmt::format("--{} wants a time such as 1.5s or 200ms, not '{}'", name, text));
  return *ns;
}

Filter parse_filter(const po::variables_map& values) {
  Filter filter;
  if (values.count("op")) filter.ops = parse_ops(values["op"].as<std::vector<std::string>>());
  if (values.count("thread")) {
    filter.threads = values["thread"].as<std::vector<std::uint64_t>>();
    std::sort(filter.threads.begin(), filter.threads.end());
  }
  if (values.count("from")) filter.from_ns = time_option(values, "from");
  if (values.count("to")) filter.to_ns = time_option(values, "to");
  if (values.count("limit")) filter.limit = values["limit"].as<std::uint64_t>();
  return filter;
}

int run(const std::vector<std::string>& args) {
  cli::CommandLine line;
  line.synopsis = "dump FILE [--format text|csv|jsonl] [filters]";
  line.description =
      "Prints a trace event by event, all threads in their true order, one line each: time in ns "
      "since the start, thread, function, pointer, requested bytes, and what else is known. Of a "
      "workload it prints the ops, lane after lane, with their slots and sync points. Filters may "
      "be given several times, and are combined.";
  line.examples =
      "  alloctape dump app.atrace | head\n"
      "  alloctape dump app.atrace --thread 2 --from 1.5s --to 1.6s\n"
      "  alloctape dump app.atrace --op realloc --op reallocarray --format csv > realloc.csv\n"
      "  alloctape dump app.awl --op wait\n";
  line.options.add_options()("format,f",
                             po::value<std::string>()->value_name("FORMAT")->default_value("text"),
                             "text, csv or jsonl (one JSON object per line).")(
      "thread,t", po::value<std::vector<std::uint64_t>>()->value_name("N")->composing(),
      "Only events of this thread (0 is the first one to record).")(
      "op", po::value<std::vector<std::string>>()->value_name("NAME")->composing(),
      "Only this function, by the name shown: malloc, 'operator new', thread_start, ...")(
      "from", po::value<std::string>()->value_name("TIME"),
      "Only from this time on, since the start: 1.5s, 200ms; a plain number is seconds.")(
      "to", po::value<std::string>()->value_name("TIME"), "Only up to this time.")(
      "limit,n", po::value<std::uint64_t>()->value_name("N"), "Stop after this many lines.");
  line.hidden.add_options()("file", po::value<std::string>()->required(), "");
  line.positional.add("file", 1);
  const auto values = cli::parse(line, args);
  if (!values) return cli::kExitOk;

  const auto format_name = (*values)["format"].as<std::string>();
  const auto format = parse_dump_format(format_name);
  if (!format)
    cli::usage_error(fmt::format("unknown format '{}': text, csv or jsonl", format_name));
  const Filter filter = parse_filter(*values);
  const auto path = (*values)["file"].as<std::string>();
  if (kind_of(path) == FileKind::kTrace) {
    dump_trace(path, *format, filter);
  } else {
    dump_workload(path, *format, filter);
  }
  return cli::kExitOk;
}

}  // namespace

const cli::Command kDumpCommand = {"dump", "print events or ops one by one", run};

}  // namespace alloctape::analysis

#include "simulator/replay_render.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/table.h"
#include "cli/units.h"

namespace alloctape::simulator {
namespace {

using formats::RunResult;
using formats::RunStatus;

std::string bytes_or_dash(const std::optional<std::uint64_t>& value) {
  return value ? cli::bytes(*value) : "-";
}
std::string time_or_dash(const std::optional<std::uint64_t>& value) {
  return value ? cli::duration_ns(static_cast<double>(*value)) : "-";
}
std::string count_or_dash(const std::optional<std::uint64_t>& value) {
  return value ? cli::count(*value) : "-";
}
std::string cycles_or_dash(const RunResult& run, double ns) {
  return run.ticks_per_second ? fmt::format("{:.0f}", ns * *run.ticks_per_second / 1e9) : "-";
}

void add(cli::Table& table, const char* what, const std::string& value,
         const std::string& remark = {}) {
  table.row({what, value, remark.empty() ? remark : cli::dim(remark)});
}

std::string memory_table(const RunResult& run) {
  cli::Table t;
  t.column("memory", cli::Table::Align::kLeft);
  t.column("");
  t.column("", cli::Table::Align::kLeft);
  std::string over_ideal;
  if (run.peak_rss_bytes && run.peak_live_bytes && *run.peak_live_bytes != 0)
    over_ideal =
        fmt::format("{} of the live peak", cli::ratio(static_cast<double>(*run.peak_rss_bytes) /
                                                      static_cast<double>(*run.peak_live_bytes)));
  add(t, "peak RSS", bytes_or_dash(run.peak_rss_bytes), over_ideal);
  add(t, "RSS at the end", bytes_or_dash(run.end_rss_bytes),
      run.end_live_bytes ? cli::bytes(*run.end_live_bytes) + " still live" : "");
  add(t, "RSS when all is freed", bytes_or_dash(run.freed_rss_bytes),
      run.settled_rss_bytes
          ? fmt::format("{} after a pause of {}", cli::bytes(*run.settled_rss_bytes),
                        cli::duration_ns(static_cast<double>(run.settle_ns.value_or(0))))
          : "");
  add(t, "RSS before the run", bytes_or_dash(run.baseline_rss_bytes), "part of the figures above");
  add(t, "peak VmSize", bytes_or_dash(run.peak_vm_bytes),
      run.baseline_vm_bytes ? cli::bytes(*run.baseline_vm_bytes) + " before the run" : "");
  std::string recorded = cli::bytes(run.fidelity.recorded_peak_live_bytes) + " recorded";
  if (run.fidelity.live_peak_ratio && *run.fidelity.live_peak_ratio != 1)
    recorded += fmt::format(", {:+.2f}%", (*run.fidelity.live_peak_ratio - 1) * 100);
  add(t, "live peak (ideal RSS)", bytes_or_dash(run.peak_live_bytes), recorded);
  if (run.mappings.peak_bytes != 0)
    add(t, "own mappings, peak", cli::bytes(run.mappings.peak_bytes), "beside the blocks");
  return t.str();
}

std::string signed_bytes(std::int64_t n) {
  return n < 0 ? "-" + cli::bytes(static_cast<std::uint64_t>(-n))
               : cli::bytes(static_cast<std::uint64_t>(n));
}

// Where the memory is, at the peak of the live bytes and at the end.
std::string parts_table(const RunResult& run) {
  if (!run.parts_at_end) return {};
  cli::Table t;
  t.column("of the RSS", cli::Table::Align::kLeft);
  t.column("at the live peak");
  t.column("at the end");
  t.column("", cli::Table::Align::kLeft);
  using formats::MemoryParts;
  auto row = [&](const char* what, auto value, const char* remark) {
    t.row({what, run.parts_at_peak ? value(*run.parts_at_peak) : "-", value(*run.parts_at_end),
           cli::dim(remark)});
  };
  row(
      "requested", [](const MemoryParts& p) { return cli::bytes(p.requested_bytes); },
      "live bytes; more than the RSS when not all is touched");
  row(
      "slop", [](const MemoryParts& p) { return bytes_or_dash(p.slop_bytes); },
      run.parts_at_peak && !run.parts_at_peak->slop_bytes
          ? "usable less requested; at the peak with --usable, else part of the rest"
          : "usable less requested");
  row(
      "lazily freed", [](const MemoryParts& p) { return cli::bytes(p.lazy_free_bytes); },
      "given back, and not yet taken by the kernel");
  if (run.mappings.peak_bytes != 0)
    row(
        "own mappings", [](const MemoryParts& p) { return cli::bytes(p.mapped_bytes); },
        "where they were written to as a whole");
  row(
      "harness", [](const MemoryParts& p) { return cli::bytes(p.harness_bytes); },
      run.harness_rss_bytes ? "as under an allocator that does nothing" : "as before the run");
  row(
      "rest", [](const MemoryParts& p) { return signed_bytes(p.rest_bytes); },
      "holes, retained free pages, metadata");
  row(
      "RSS", [](const MemoryParts& p) { return cli::bytes(p.anon_bytes); }, "");
  std::string text = t.str();
  if (run.view_at_end) {
    text += cli::dim("the allocator's own view at the end (" + run.view_at_end->source + "):");
    for (const auto& [name, value] : run.view_at_end->figures)
      text += cli::dim(fmt::format(" {} {}", name, value));
    text += "\n";
  }
  return text;
}

std::string time_table(const RunResult& run) {
  cli::Table t;
  t.column("time", cli::Table::Align::kLeft);
  t.column("");
  t.column("", cli::Table::Align::kLeft);
  std::string rate;
  if (run.wall_ns && *run.wall_ns != 0)
    rate =
        fmt::format("{} calls, {:.1f} million/s", cli::count(run.total_ops),
                    static_cast<double>(run.total_ops) * 1e3 / static_cast<double>(*run.wall_ns));
  add(t, "wall", time_or_dash(run.wall_ns), rate);
  add(t, "user / system", time_or_dash(run.user_ns) + " / " + time_or_dash(run.system_ns));
  add(t, "cycles (TSC)", count_or_dash(run.wall_ticks),
      run.ticks_per_second ? fmt::format("{:.3f} GHz", *run.ticks_per_second / 1e9) : "");
  add(t, "page faults", count_or_dash(run.minor_faults),
      count_or_dash(run.major_faults) + " from disk");
  add(t, "context switches", count_or_dash(run.voluntary_switches),
      count_or_dash(run.involuntary_switches) + " involuntary");
  if (run.lanes > 1)
    add(t, "sync waits", cli::count(run.sync_waits),
        fmt::format("{} slept, {} waited, {} threads in {} lanes", cli::count(run.sync_blocked),
                    cli::duration_ns(static_cast<double>(run.sync_wait_ns)),
                    cli::count(run.threads), cli::count(run.lanes)));
  if (!run.purge_by.empty())
    add(t, "purges", cli::count(run.purges),
        fmt::format("{} by {}", cli::duration_ns(static_cast<double>(run.purge_ns)), run.purge_by));
  if (run.fidelity.harness_share)
    add(t, "harness", cli::percent(*run.fidelity.harness_share),
        fmt::format("of the CPU time: {:.1f} ns a call", run.harness_op_ns.value_or(0)));
  return t.str();
}

std::string ops_table(const RunResult& run) {
  std::vector<std::pair<std::string, std::uint64_t>> ops(run.ops.begin(), run.ops.end());
  std::stable_sort(ops.begin(), ops.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  cli::Table t;
  t.column("call", cli::Table::Align::kLeft);
  t.column("count");
  const bool timed = !run.latency.empty();
  if (timed)
    for (const char* header :
         {"mean", "p50", "p90", "p99", "p99.9", "p99.99", "max", "mean cycles"})
      t.column(header);
  for (const auto& [op, count] : ops) {
    std::vector<std::string> row{op, cli::count(count)};
    if (const auto it = run.latency.find(op); it != run.latency.end()) {
      const formats::LatencySummary& l = it->second;
      for (const double ns :
           {l.mean_ns, l.p50_ns, l.p90_ns, l.p99_ns, l.p999_ns, l.p9999_ns, l.max_ns})
        row.push_back(cli::duration_ns(ns));
      row.push_back(cycles_or_dash(run, l.mean_ns));
    }
    t.row(std::move(row));
  }
  std::string text = t.str();
  if (timed && run.timing == "sample")
    text += cli::dim(fmt::format("one call in {} was timed\n", cli::count(run.timing_every)));
  if (timed && run.timer_overhead_ns)
    text += cli::dim(
        fmt::format("latencies are net of the stamps' own {:.1f} ns\n", *run.timer_overhead_ns));
  return text;
}

std::string syscalls_table(const RunResult& run) {
  cli::Table t;
  t.column("system call", cli::Table::Align::kLeft);
  for (const char* header : {"count", "failed", "time", "max", "bytes"}) t.column(header);
  for (const auto& [name, f] : run.syscalls->by_function)
    t.row({name, cli::count(f.count), cli::count(f.failed),
           cli::duration_ns(static_cast<double>(f.total_ns)),
           cli::duration_ns(static_cast<double>(f.max_ns)), f.bytes ? cli::bytes(f.bytes) : "-"});
  return t.str() +
         cli::dim(fmt::format("from an untimed pass; times are net of {:.1f} us for the stops\n",
                              run.syscalls->overhead_ns / 1000));
}

std::string sizes_text(const formats::SizeLatency& l) {
  if (!l.to_bytes) return "above " + cli::bytes(l.from_bytes - 1);
  return "to " + cli::bytes(*l.to_bytes);
}

std::string by_size_table(const RunResult& run) {
  cli::Table t;
  t.column("call", cli::Table::Align::kLeft);
  t.column("block of", cli::Table::Align::kLeft);
  for (const char* header : {"timed", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"})
    t.column(header);
  for (const auto& [op, classes] : run.latency_by_size) {
    for (const formats::SizeLatency& one : classes) {
      const formats::LatencySummary& l = one.summary;
      std::vector<std::string> row{op, sizes_text(one), cli::count(l.count)};
      for (const double ns :
           {l.mean_ns, l.p50_ns, l.p90_ns, l.p99_ns, l.p999_ns, l.p9999_ns, l.max_ns})
        row.push_back(cli::duration_ns(ns));
      t.row(std::move(row));
    }
  }
  return t.str();
}

// A few of the slowest calls: enough to see whether a maximum is the allocator's.
std::string slowest_table(const RunResult& run) {
  constexpr std::size_t kShown = 5;
  cli::Table t;
  t.column("slowest calls", cli::Table::Align::kLeft);
  t.column("");
  t.column("block of");
  t.column("", cli::Table::Align::kLeft);
  t.column("within it", cli::Table::Align::kLeft);
  for (std::size_t i = 0; i < std::min(kShown, run.slowest_calls.size()); ++i) {
    const formats::SlowCall& c = run.slowest_calls[i];
    std::string within;
    if (c.page_faults && *c.page_faults != 0)
      within += fmt::format("{} page fault{}", cli::count(*c.page_faults),
                            *c.page_faults == 1 ? "" : "s");
    if (c.switches && *c.switches != 0)
      within += fmt::format("{}{} switch{} of threads", within.empty() ? "" : ", ",
                            cli::count(*c.switches), *c.switches == 1 ? "" : "es");
    if (within.empty()) within = c.page_faults ? "no page fault, no switch of threads" : "-";
    t.row({c.op, cli::duration_ns(c.ns), cli::bytes(c.size_bytes),
           fmt::format("op {} of lane {}", cli::count(c.op_index), c.lane), cli::dim(within)});
  }
  return t.str();
}

}  // namespace

std::string render_run(const RunResult& run, bool by_size) {
  std::string text = fmt::format(
      "{} under {}{}\n", run.workload, cli::bold(run.candidate.name),
      run.candidate.version.empty() ? "" : cli::dim(fmt::format(" ({})", run.candidate.version)));
  if (run.status != RunStatus::kOk) {
    text += cli::red(fmt::format("{}: {}", formats::to_string(run.status),
                                 run.failure ? run.failure->message : "")) +
            "\n";
    if (run.failure)
      for (const std::string& frame : run.failure->backtrace) text += cli::dim("  " + frame) + "\n";
    if (run.verification && run.status == RunStatus::kCorrupted)
      for (std::size_t i = 1; i < run.verification->first.size(); ++i)
        text += cli::dim("  " + run.verification->first[i].message) + "\n";
    if (run.status == RunStatus::kFailed) return text;
  }
  text += "\n" + memory_table(run) + "\n" + parts_table(run) + "\n" + time_table(run) + "\n" +
          ops_table(run);
  if (by_size && !run.latency_by_size.empty()) text += "\n" + by_size_table(run);
  if (!run.slowest_calls.empty()) text += "\n" + slowest_table(run);
  if (run.syscalls && run.syscalls->available) text += "\n" + syscalls_table(run);
  const RunResult::Fidelity& f = run.fidelity;
  if (run.status == RunStatus::kOk && !f.faithful)
    text += cli::red("not faithful to the recording: ") +
            fmt::format("live peak {:.2f}% of the recorded, {} ops out of order, {} skipped\n",
                        f.live_peak_ratio.value_or(0) * 100, cli::count(f.order_violations),
                        cli::count(f.skipped_ops));
  if (run.verification && run.status == RunStatus::kOk)
    text += fmt::format("verified: {} blocks, {}: no fault\n", cli::count(run.verification->blocks),
                        cli::bytes(run.verification->bytes));
  if (f.failed_ops != 0)
    text += fmt::format("{} calls returned nothing where the recording has a block\n",
                        cli::count(f.failed_ops));
  for (const std::string& function : run.fallbacks)
    if (run.ops.count(function))
      text +=
          fmt::format("this allocator has no {}: another of its functions stood in\n", function);
  for (const std::string& note : run.notes) text += "note: " + note + "\n";
  return text;
}

}  // namespace alloctape::simulator

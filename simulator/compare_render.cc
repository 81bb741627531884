#include "simulator/compare_render.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "cli/table.h"
#include "cli/units.h"

namespace alloctape::simulator {
namespace {

using formats::Comparison;
using formats::RunResult;
using formats::RunStatus;
using Figure = std::optional<double>;

constexpr std::size_t kKindColumns = 4;
constexpr double kMinorKind = 0.01;  // share of the calls below which a kind gets no column

Figure median(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

struct Column {
  std::string header;
  std::function<Figure(const RunResult&)> of_run;
  std::function<std::string(double)> text;
  bool less_is_better = true;
};

struct Row {
  std::string candidate;
  std::vector<const RunResult*> ok;
  std::vector<const RunResult*> failed;
  bool ranked = true;  // all good runs were faithful
  std::vector<Figure> figures;
};

Figure figure(const std::optional<std::uint64_t>& value) {
  return value ? Figure(static_cast<double>(*value)) : std::nullopt;
}

// The kinds of calls that make up the workload, most frequent first.
std::vector<std::string> main_kinds(const std::vector<const RunResult*>& runs) {
  std::map<std::string, std::uint64_t> ops;
  std::uint64_t total = 0;
  for (const RunResult* run : runs) {
    for (const auto& [op, count] : run->ops) ops[op] += count;
    total += run->total_ops;
  }
  std::vector<std::pair<std::uint64_t, std::string>> order;
  for (const auto& [op, count] : ops)
    if (static_cast<double>(count) >= kMinorKind * static_cast<double>(total))
      order.emplace_back(count, op);
  std::sort(order.begin(), order.end(), std::greater<>());
  std::vector<std::string> kinds;
  for (const auto& [count, op] : order)
    if (kinds.size() < kKindColumns) kinds.push_back(op);
  return kinds;
}

std::string bytes_text(double v) { return cli::bytes(static_cast<std::uint64_t>(v)); }
// Plain ns, as the header says; a unit of their own where that would be a long number.
std::string ns_text(double v) {
  return v < 1e5 ? fmt::format("{:.{}f}", v, v < 99.95 ? 1 : 0) : cli::duration_ns(v);
}

std::vector<Column> columns_for(const std::vector<const RunResult*>& runs) {
  std::vector<Column> columns;
  columns.push_back(
      {"peak RSS", [](const RunResult& r) { return figure(r.peak_rss_bytes); }, bytes_text});
  columns.push_back({"/ideal",
                     [](const RunResult& r) -> Figure {
                       if (!r.peak_rss_bytes || !r.peak_live_bytes || *r.peak_live_bytes == 0)
                         return std::nullopt;
                       return static_cast<double>(*r.peak_rss_bytes) /
                              static_cast<double>(*r.peak_live_bytes);
                     },
                     [](double v) { return cli::ratio(v); }});
  columns.push_back(
      {"end RSS", [](const RunResult& r) { return figure(r.end_rss_bytes); }, bytes_text});
  columns.push_back(
      {"freed RSS", [](const RunResult& r) { return figure(r.freed_rss_bytes); }, bytes_text});
  columns.push_back({"wall", [](const RunResult& r) { return figure(r.wall_ns); },
                     [](double v) { return cli::duration_ns(v); }});
  columns.push_back({"CPU",
                     [](const RunResult& r) -> Figure {
                       if (!r.user_ns || !r.system_ns) return std::nullopt;
                       return static_cast<double>(*r.user_ns + *r.system_ns);
                     },
                     [](double v) { return cli::duration_ns(v); }});
  const bool timed =
      std::any_of(runs.begin(), runs.end(), [](const RunResult* r) { return !r->latency.empty(); });
  if (!timed) return columns;
  for (const std::string& kind : main_kinds(runs)) {
    auto latency = [kind](double formats::LatencySummary::*field) {
      return [kind, field](const RunResult& r) -> Figure {
        const auto it = r.latency.find(kind);
        return it == r.latency.end() ? std::nullopt : Figure(it->second.*field);
      };
    };
    columns.push_back({kind + " ns", latency(&formats::LatencySummary::mean_ns), ns_text});
    columns.push_back({"p99", latency(&formats::LatencySummary::p99_ns), ns_text});
  }
  return columns;
}

std::vector<Row> rows_for(const Comparison& comparison, const std::string& workload) {
  std::vector<Row> rows;
  for (const std::string& candidate : comparison.candidates) {
    Row row;
    row.candidate = candidate;
    for (const RunResult& run : comparison.runs) {
      if (run.workload != workload || run.candidate.name != candidate) continue;
      (run.status == RunStatus::kOk ? row.ok : row.failed).push_back(&run);
      if (run.status == RunStatus::kOk && !run.fidelity.faithful) row.ranked = false;
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string remark_of(const Row& row) {
  if (row.ok.empty() && row.failed.empty()) return "not run";
  std::string remark;
  if (!row.failed.empty()) {
    const RunResult& run = *row.failed.front();
    if (!row.ok.empty())
      remark =
          fmt::format("{} of {} rounds ", row.failed.size(), row.ok.size() + row.failed.size());
    remark += fmt::format("{}: {}", formats::to_string(run.status),
                          run.failure ? run.failure->message : "");
  }
  if (!row.ranked) {
    double worst = 1;
    std::uint64_t skipped = 0;
    for (const RunResult* run : row.ok) {
      const double ratio = run->fidelity.live_peak_ratio.value_or(1);
      if (std::abs(ratio - 1) > std::abs(worst - 1)) worst = ratio;
      skipped = std::max(skipped, run->fidelity.skipped_ops);
    }
    if (!remark.empty()) remark += "; ";
    remark += skipped != 0 ? fmt::format("not faithful: {} calls skipped", cli::count(skipped))
                           : fmt::format("not faithful: live peak {:+.1f}%", (worst - 1) * 100);
  }
  return remark;
}

std::string workload_table(const Comparison& comparison, const std::string& workload,
                           bool rank_all) {
  std::vector<const RunResult*> ok;
  for (const RunResult& run : comparison.runs)
    if (run.workload == workload && run.status == RunStatus::kOk) ok.push_back(&run);
  const std::vector<Column> columns = columns_for(ok);
  std::vector<Row> rows = rows_for(comparison, workload);
  std::vector<Figure> best(columns.size());
  for (Row& row : rows) {
    for (std::size_t i = 0; i < columns.size(); ++i) {
      std::vector<double> values;
      for (const RunResult* run : row.ok)
        if (const Figure value = columns[i].of_run(*run)) values.push_back(*value);
      row.figures.push_back(median(std::move(values)));
      const Figure& mine = row.figures.back();
      if (mine && (row.ranked || rank_all) && (!best[i] || *mine < *best[i])) best[i] = mine;
    }
  }

  cli::Table table;
  table.column("candidate", cli::Table::Align::kLeft);
  for (const Column& column : columns) table.column(column.header);
  // The first three ratios that matter, against the first candidate of the command line.
  const std::vector<std::pair<std::size_t, const char*>> ratios = {
      {0, "RSS ratio"}, {4, "wall ratio"}, {5, "CPU ratio"}};
  for (const auto& ratio : ratios) table.column(ratio.second);
  table.column("", cli::Table::Align::kLeft);
  for (const Row& row : rows) {
    std::vector<std::string> cells{row.candidate};
    for (std::size_t i = 0; i < columns.size(); ++i) {
      if (!row.figures[i]) {
        cells.push_back("-");
        continue;
      }
      const std::string text = columns[i].text(*row.figures[i]);
      const bool is_best =
          (row.ranked || rank_all) && rows.size() > 1 && best[i] && *row.figures[i] == *best[i];
      cells.push_back(is_best ? cli::green(text + "*") : text);
    }
    for (const auto& [column, header] : ratios) {
      const Figure& mine = row.figures[column];
      const Figure& first = rows.front().figures[column];
      cells.push_back(mine && first && *first > 0 ? cli::ratio(*mine / *first) : "-");
    }
    const std::string remark = remark_of(row);
    cells.push_back(remark.empty() ? remark : cli::red(remark));
    table.row(std::move(cells));
  }

  std::string text = cli::bold(workload);
  if (!ok.empty())
    text += fmt::format(": {} calls, live peak {}", cli::count(ok.front()->total_ops),
                        cli::bytes(ok.front()->fidelity.recorded_peak_live_bytes));
  return text + "\n" + table.str();
}

}  // namespace

std::string render_comparison(const Comparison& comparison, bool rank_all) {
  std::string text;
  for (const std::string& workload : comparison.workloads)
    text += workload_table(comparison, workload, rank_all) + "\n";
  text +=
      cli::dim(fmt::format("medians of {} round{}, order shuffled with seed {}; * best, ratios to "
                           "{}; latencies: mean and "
                           "p99 in ns\n",
                           comparison.rounds, comparison.rounds == 1 ? "" : "s", comparison.seed,
                           comparison.candidates.empty() ? "-" : comparison.candidates.front()));
  bool unfaithful = false;
  for (const RunResult& run : comparison.runs)
    unfaithful |= run.status == RunStatus::kOk && !run.fidelity.faithful;
  if (unfaithful && !rank_all)
    text +=
        "Runs that were not faithful to the recording are not ranked (--rank-all ranks them). "
        "Converting with --order bounded or serial reproduces the recorded peak.\n";
  return text;
}

}  // namespace alloctape::simulator

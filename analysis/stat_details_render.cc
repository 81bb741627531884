#include "analysis/stat_details_render.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "cli/units.h"

namespace alloctape::analysis {
namespace {

using cli::Table;

constexpr std::size_t kMarksShown = 20;     // in the text
constexpr std::size_t kMarksListed = 1000;  // in the JSON
constexpr std::pair<const char*, double> kQuantiles[] = {
    {"p50_ns", 0.5}, {"p90_ns", 0.9}, {"p99_ns", 0.99}, {"p999_ns", 0.999}};

std::uint64_t to_ns(const Statistics& s, double ticks) {
  return static_cast<std::uint64_t>(ticks * s.ns_per_tick + 0.5);
}

Json latency_json(const Statistics& s, const QuantileHistogram& h) {
  Json json = {{"count", h.count()}, {"mean_ns", h.mean() * s.ns_per_tick}};
  for (const auto& [key, share] : kQuantiles) {
    json[key] = to_ns(s, static_cast<double>(h.quantile(share)));
  }
  json["max_ns"] = to_ns(s, static_cast<double>(h.max()));
  return json;
}

Json sizes_json(const CallDetails::Sizes& sizes) {
  return {{"calls", sizes.calls},
          {"requested_bytes", sizes.requested},
          {"usable_bytes", sizes.usable},
          {"overhead", sizes.overhead()}};
}

std::string size_label(std::size_t bucket) {
  const std::uint64_t low = Log2Histogram::lowest(bucket), high = Log2Histogram::highest(bucket);
  if (low >= 1024) return fmt::format("{} ..", cli::bytes(low));
  return low == high ? fmt::format("{} B", low) : fmt::format("{}..{} B", low, high);
}

void latency_columns(Table& table, const char* first) {
  table.column(first, Table::Align::kLeft);
  for (const char* name : {"calls", "mean", "p50", "p90", "p99", "p99.9", "max"}) {
    table.column(name);
  }
}

void latency_row(Table& table, const Statistics& s, std::string label, const QuantileHistogram& h) {
  const auto ns = [&](double ticks) { return cli::duration_ns(ticks * s.ns_per_tick); };
  std::vector<std::string> row{std::move(label), cli::count(h.count()), ns(h.mean())};
  for (const auto& quantile : kQuantiles) {
    row.push_back(ns(static_cast<double>(h.quantile(quantile.second))));
  }
  row.push_back(ns(static_cast<double>(h.max())));
  table.row(std::move(row));
}

void print_usable(cli::Output& out, const Statistics& s) {
  if (!s.details.has_sizes()) return;
  Table table;
  table.column("Usable size", Table::Align::kLeft);
  for (const char* name : {"calls", "requested", "usable", "unused"}) table.column(name);
  const auto row = [&](std::string label, const CallDetails::Sizes& sizes) {
    table.row({std::move(label), cli::count(sizes.calls), cli::bytes(sizes.requested),
               cli::bytes(sizes.usable), cli::percent(sizes.overhead())});
  };
  for (std::size_t i = 0; i < Log2Histogram::kBuckets; ++i) {
    if (s.details.sizes_of(i).calls != 0) row(size_label(i), s.details.sizes_of(i));
  }
  table.rule();
  row("all", s.details.sizes());
  out.print("\n{}", table.str());
}

void print_durations(cli::Output& out, const Statistics& s) {
  if (!s.details.has_durations()) return;
  Table by_function, by_size;
  latency_columns(by_function, "Time in the call");
  latency_columns(by_size, "Time, by requested size");
  for (std::size_t i = 0; i < CallDetails::kOps; ++i) {
    const auto op = static_cast<wire::Op>(i);
    if (const QuantileHistogram* h = s.details.durations_of(op)) {
      latency_row(by_function, s, wire::traits(op).name, *h);
    }
  }
  bool any = false;
  for (std::size_t i = 0; i < Log2Histogram::kBuckets; ++i) {
    if (const QuantileHistogram* h = s.details.durations_of_size(i)) {
      latency_row(by_size, s, size_label(i), *h);
      any = true;
    }
  }
  out.print("\n{}", by_function.str());
  if (any) out.print("\n{}", by_size.str());
}

void print_marks(cli::Output& out, const Statistics& s) {
  if (s.mark_list.empty()) return;
  Table table;
  table.column("Mark at");
  table.column("", Table::Align::kLeft);
  for (std::size_t i = 0; i < s.mark_list.size() && i < kMarksShown; ++i) {
    table.row({cli::duration_ns(static_cast<double>(s.mark_list[i].ns)), s.mark_list[i].text});
  }
  out.print("\n{}", table.str());
  if (s.mark_list.size() > kMarksShown) {
    out.print("and {} more\n", cli::count(s.mark_list.size() - kMarksShown));
  }
}

}  // namespace

void add_details_json(Json& json, const Statistics& s) {
  json["order"]["lost_in_gap"] = s.order.lost_in_gap;
  json["prologue"] = {
      {"blocks", s.prologue_blocks},
      {"bytes", s.prologue_bytes},
      {"unknown_blocks", s.prologue_unknown_blocks},
      {"share_of_peak", s.live.peak_bytes == 0 ? Json(nullptr)
                                               : Json(static_cast<double>(s.prologue_bytes) /
                                                      static_cast<double>(s.live.peak_bytes))}};
  json["pauses"] = s.pauses;
  json["resumes"] = s.resumes;
  json["ring"] = s.ring;
  json["overwritten_events"] = s.overwritten_events;
  json["overwritten_blocks"] = s.overwritten_blocks;
  Json marks = Json::array();
  for (std::size_t i = 0; i < s.mark_list.size() && i < kMarksListed; ++i) {
    const auto& mark = s.mark_list[i];
    marks.push_back({{"time_ns", mark.ns},
                     {"tid", mark.tid == 0 ? Json(nullptr) : Json(mark.tid)},
                     {"text", mark.text}});
  }
  json["mark_list"] = std::move(marks);

  json["usable"] = s.details.has_sizes() ? sizes_json(s.details.sizes()) : Json(nullptr);
  if (s.details.has_sizes()) {
    Json by_size = Json::array();
    for (std::size_t i = 0; i < Log2Histogram::kBuckets; ++i) {
      if (s.details.sizes_of(i).calls == 0) continue;
      Json entry = {{"from_bytes", Log2Histogram::lowest(i)},
                    {"to_bytes", Log2Histogram::highest(i)}};
      entry.update(sizes_json(s.details.sizes_of(i)));
      by_size.push_back(std::move(entry));
    }
    json["usable"]["by_size"] = std::move(by_size);
  }
  json["latency"] = nullptr;
  json["latency_by_size"] = nullptr;
  if (!s.details.has_durations()) return;
  Json by_function = Json::object(), by_size = Json::array();
  for (std::size_t i = 0; i < CallDetails::kOps; ++i) {
    const auto op = static_cast<wire::Op>(i);
    if (const QuantileHistogram* h = s.details.durations_of(op)) {
      by_function[wire::traits(op).name] = latency_json(s, *h);
    }
  }
  for (std::size_t i = 0; i < Log2Histogram::kBuckets; ++i) {
    const QuantileHistogram* h = s.details.durations_of_size(i);
    if (h == nullptr) continue;
    Json entry = {{"from_bytes", Log2Histogram::lowest(i)},
                  {"to_bytes", Log2Histogram::highest(i)}};
    entry.update(latency_json(s, *h));
    by_size.push_back(std::move(entry));
  }
  json["latency"] = std::move(by_function);
  json["latency_by_size"] = std::move(by_size);
}

void add_details_rows(Table& table, const Statistics& s) {
  if (s.prologue_blocks > 0) {
    const double share = s.live.peak_bytes == 0 ? 0
                                                : static_cast<double>(s.prologue_bytes) /
                                                      static_cast<double>(s.live.peak_bytes);
    table.row({"Seen only when released",
               fmt::format("{} in {} block{} ({} of the peak)", cli::bytes(s.prologue_bytes),
                           cli::count(s.prologue_blocks), s.prologue_blocks == 1 ? "" : "s",
                           cli::percent(share))});
  }
  if (s.pauses + s.resumes > 0) {
    table.row({"Paused", fmt::format("{} times, by thread; {} blocks went meanwhile",
                                     cli::count(std::max(s.pauses, s.resumes)),
                                     cli::count(s.order.lost_in_gap))});
  } else if (s.order.lost_in_gap > 0) {
    table.row({"Freed in a gap", cli::count(s.order.lost_in_gap) + " blocks"});
  }
  if (s.ring) {
    table.row({"Overwritten in the ring",
               fmt::format("{} events in {} blocks", cli::count(s.overwritten_events),
                           cli::count(s.overwritten_blocks))});
  }
  if (s.details.has_sizes()) {
    const CallDetails::Sizes& sizes = s.details.sizes();
    table.row({"Unused of usable bytes",
               fmt::format("{} ({} usable for {} requested)", cli::percent(sizes.overhead()),
                           cli::bytes(sizes.usable), cli::bytes(sizes.requested))});
  }
}

void print_details(cli::Output& out, const Statistics& s) {
  print_usable(out, s);
  print_durations(out, s);
  print_marks(out, s);
}

}  // namespace alloctape::analysis

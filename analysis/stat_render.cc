#include "analysis/stat_render.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "analysis/map_statistics_render.h"
#include "analysis/stat_details_render.h"
#include "cli/table.h"
#include "cli/units.h"

namespace alloctape::analysis {
namespace {

using cli::Table;

constexpr std::size_t kBarWidth = 30;
constexpr std::size_t kThreadsShown = 8;     // in the text
constexpr std::size_t kThreadsListed = 100;  // in the JSON

bool is_trace(const Statistics& s) { return s.source == Statistics::Source::kTrace; }

std::uint64_t sum(const OpCounts& counts) {
  std::uint64_t total = 0;
  for (const std::uint64_t n : counts) total += n;
  return total;
}

std::string share(std::uint64_t part, std::uint64_t whole) {
  if (whole == 0) return "-";
  return cli::percent(static_cast<double>(part) / static_cast<double>(whole));
}

std::string bar(std::uint64_t n, std::uint64_t most) {
  if (n == 0 || most == 0) return "";
  const auto width = static_cast<std::size_t>(static_cast<double>(n) / static_cast<double>(most) *
                                              static_cast<double>(kBarWidth));
  return std::string(std::max<std::size_t>(width, 1), '#');
}

Json counts_json(const OpCounts& counts) {
  Json json = Json::object();
  for (std::size_t i = 1; i < counts.size(); ++i) {
    const char* name = wire::traits(static_cast<wire::Op>(i)).name;
    if (counts[i] > 0 && name != nullptr) json[name] = counts[i];
  }
  return json;
}

std::vector<std::pair<std::uint32_t, ThreadShare>> busiest_threads(const Statistics& s,
                                                                   std::size_t limit) {
  std::vector<std::pair<std::uint32_t, ThreadShare>> all(s.thread_shares.begin(),
                                                         s.thread_shares.end());
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return a.second.calls != b.second.calls ? a.second.calls > b.second.calls : a.first < b.first;
  });
  if (all.size() > limit) all.resize(limit);
  return all;
}

Json lifetimes_json(const Statistics& s) {
  Json by_time = Json::array(), by_events = Json::array();
  for (std::size_t i = 0; i < DecadeHistogram::kBuckets; ++i) {
    if (s.lifetime_ns.count[i] == 0) continue;
    Json bucket = {{"from_ns", DecadeHistogram::lowest_ns(i)}};
    const bool last = i + 1 == DecadeHistogram::kBuckets;
    bucket["below_ns"] = last ? Json(nullptr) : Json(DecadeHistogram::lowest_ns(i + 1));
    bucket["blocks"] = s.lifetime_ns.count[i];
    by_time.push_back(std::move(bucket));
  }
  for (std::size_t i = 0; i < Log2Histogram::kBuckets; ++i) {
    if (s.lifetime_events.count[i] == 0) continue;
    by_events.push_back({{"from_events", Log2Histogram::lowest(i)},
                         {"to_events", Log2Histogram::highest(i)},
                         {"blocks", s.lifetime_events.count[i]}});
  }
  return {{"freed_blocks", s.frees},
          {"temporary_blocks", s.temporary_blocks},
          {"by_time", std::move(by_time)},
          {"by_events", std::move(by_events)}};
}

// What only a trace can tell.
void add_trace_json(Json& json, const Statistics& s) {
  json["order"] = {{"repaired", s.order.repaired},
                   {"unrepairable", s.order.unrepairable},
                   {"unseen_releases", s.order.unseen_releases},
                   {"unseen_queries", s.order.unseen_queries}};
  json["cross_thread_frees"] = s.cross_thread_frees;
  json["cross_thread_resizes"] = s.cross_thread_resizes;
  json["leaked"] = {{"blocks", s.live.blocks}, {"bytes", s.live.bytes}};
  json["lifetimes"] = lifetimes_json(s);
  json["resizes"] = {{"in_place", s.resizes_in_place},
                     {"moved", s.resizes_moved},
                     {"moved_bytes", s.resizes_moved_bytes},
                     {"unseen", s.unseen_resizes}};
  json["path"] = {{"mapped_calls", s.mapped_calls},           {"mapped_bytes", s.mapped_bytes},
                  {"other_arena_calls", s.other_arena_calls}, {"grew_calls", s.grew_calls},
                  {"bootstrap_calls", s.bootstrap_calls},     {"late_calls", s.late_calls}};
  json["thread_starts"] = s.thread_starts;
  json["thread_ends"] = s.thread_ends;
  json["forks"] = s.forks;
  json["marks"] = s.marks;
  json["recorded_rss"] = {{"samples", s.rss_samples},
                          {"peak_anon_bytes", s.rss_samples == 0 ? Json() : Json(s.peak_anon_rss)}};
  json["sparse_stamps"] = s.sparse_stamps;
  Json threads = Json::array();
  for (const auto& [thread, sh] : busiest_threads(s, kThreadsListed)) {
    threads.push_back(
        {{"thread", thread}, {"calls", sh.calls}, {"requested_bytes", sh.requested_bytes}});
  }
  json["busiest_threads"] = std::move(threads);
  json["corrupt_blocks"] = s.corrupt_blocks;
  add_details_json(json, s);
}

std::string duration(std::uint64_t ns) { return cli::duration_ns(static_cast<double>(ns)); }

void print_calls(cli::Output& out, const Statistics& s) {
  Table table;
  table.column("Calls", Table::Align::kLeft);
  table.column("count");
  table.column("share");
  table.column("NULL");
  table.column("failed");
  std::vector<std::size_t> ops;
  for (std::size_t i = 1; i < s.calls.size(); ++i) {
    if (s.calls[i] > 0 && wire::is_api_op(static_cast<wire::Op>(i))) ops.push_back(i);
  }
  std::stable_sort(ops.begin(), ops.end(),
                   [&](std::size_t a, std::size_t b) { return s.calls[a] > s.calls[b]; });
  auto some = [](std::uint64_t n) { return n == 0 ? std::string("-") : cli::count(n); };
  for (const std::size_t i : ops) {
    table.row({wire::traits(static_cast<wire::Op>(i)).name, cli::count(s.calls[i]),
               share(s.calls[i], s.api_events), some(s.null[i]), some(s.failed[i])});
  }
  table.rule();
  table.row({"all", cli::count(s.api_events), "", some(sum(s.null)), some(sum(s.failed))});
  out.write(table.str());
}

void print_sizes(cli::Output& out, const Statistics& s) {
  const std::uint64_t most = *std::max_element(s.sizes.count.begin(), s.sizes.count.end());
  if (most == 0) return;
  Table table;
  table.column("Requested size");
  table.column("calls");
  table.column("share");
  table.column("bytes");
  table.column("", Table::Align::kLeft);
  for (std::size_t i = 0; i < Log2Histogram::kBuckets; ++i) {
    if (s.sizes.count[i] == 0) continue;
    const std::uint64_t low = Log2Histogram::lowest(i), high = Log2Histogram::highest(i);
    // Below 1 KiB the exact edges; above, where they are long, the next power of two.
    std::string label = low == high ? fmt::format("{} B", low) : fmt::format("{}..{} B", low, high);
    if (low >= 1024) label = fmt::format("{} ..", cli::bytes(low));
    table.row({std::move(label), cli::count(s.sizes.count[i]), share(s.sizes.count[i], s.requests),
               cli::bytes(s.sizes.sum[i]), bar(s.sizes.count[i], most)});
  }
  out.print("\n{}", table.str());
}

void print_lifetimes(cli::Output& out, const Statistics& s) {
  const std::uint64_t most =
      *std::max_element(s.lifetime_ns.count.begin(), s.lifetime_ns.count.end());
  if (most == 0) return;
  Table table;
  table.column("Lifetime");
  table.column("blocks");
  table.column("share");
  table.column("", Table::Align::kLeft);
  for (std::size_t i = 0; i < DecadeHistogram::kBuckets; ++i) {
    if (s.lifetime_ns.count[i] == 0) continue;
    const bool last = i + 1 == DecadeHistogram::kBuckets;
    table.row({last ? "longer" : "< " + duration(DecadeHistogram::lowest_ns(i + 1)),
               cli::count(s.lifetime_ns.count[i]), share(s.lifetime_ns.count[i], s.frees),
               bar(s.lifetime_ns.count[i], most)});
  }
  out.print("\n{}", table.str());
  if (s.sparse_stamps) {
    out.write(
        "(not every event reads the clock: short lifetimes are rounded; record --dense-stamps)\n");
  }
}

void print_threads(cli::Output& out, const Statistics& s) {
  if (s.threads < 2) return;
  Table table;
  table.column("Thread");
  table.column("calls");
  table.column("share");
  table.column("requested");
  const auto shown = busiest_threads(s, kThreadsShown);
  for (const auto& [thread, sh] : shown) {
    table.row({fmt::format("{}", thread), cli::count(sh.calls), share(sh.calls, s.api_events),
               cli::bytes(sh.requested_bytes)});
  }
  out.print("\n{}", table.str());
  if (s.threads > shown.size()) {
    out.print("and {} more\n", cli::count(s.threads - shown.size()));
  }
}

std::string blocks_text(std::uint64_t blocks) {
  return cli::count(blocks) + (blocks == 1 ? " block" : " blocks");
}
std::string bytes_and_blocks(std::uint64_t bytes, std::uint64_t blocks) {
  return cli::bytes(bytes) + " in " + blocks_text(blocks);
}

void add_trace_rows(Table& table, const Statistics& s) {
  table.row({"Never freed", bytes_and_blocks(s.live.bytes, s.live.blocks)});
  table.row(
      {"Freed", fmt::format("{}, {} temporary ({})", blocks_text(s.frees),
                            cli::count(s.temporary_blocks), share(s.temporary_blocks, s.frees))});
  table.row({"Freed by another thread", fmt::format("{} ({})", cli::count(s.cross_thread_frees),
                                                    share(s.cross_thread_frees, s.frees))});
  const std::uint64_t resizes = s.resizes_in_place + s.resizes_moved;
  if (resizes > 0) {
    table.row({"Resized", fmt::format("{}, {} moved ({}, {})", blocks_text(resizes),
                                      cli::count(s.resizes_moved), share(s.resizes_moved, resizes),
                                      cli::bytes(s.resizes_moved_bytes))});
  }
  if (s.mapped_calls > 0) {
    table.row({"In mappings of their own", bytes_and_blocks(s.mapped_bytes, s.mapped_calls)});
  }
  if (s.order.unseen_releases + s.order.unseen_queries > 0) {
    table.row({"From before the recording",
               fmt::format("{} released, {} queried", cli::count(s.order.unseen_releases),
                           cli::count(s.order.unseen_queries))});
  }
  add_details_rows(table, s);
  if (s.forks > 0) table.row({"Forks", cli::count(s.forks)});
  // The whole program's, stacks and data included: what the heap is a part of.
  table.row(
      {"Recorded anonymous RSS", s.rss_samples == 0 ? "-" : "peak " + cli::bytes(s.peak_anon_rss)});
  table.row({"Order", fmt::format("{} inversions repaired, {} unrepairable",
                                  cli::count(s.order.repaired), cli::count(s.order.unrepairable))});
  table.row({"Lost events", cli::count(s.dropped_events)});
}

}  // namespace

Json to_json(const Statistics& s) {
  Json json;
  json["schema"] = "alloctape.stat/1";
  json["file"] = s.path;
  json["kind"] = is_trace(s) ? "trace" : "workload";
  json["calls"] = counts_json(s.calls);
  json["null_calls"] = counts_json(s.null);
  json["failed_calls"] = counts_json(s.failed);
  json["events"] = is_trace(s) ? Json(s.events) : Json(nullptr);
  json["api_events"] = s.api_events;
  json["dropped_events"] = is_trace(s) ? Json(s.dropped_events) : Json(nullptr);
  json["threads"] = s.threads;
  json["duration_ns"] = s.duration_ns;
  json["live"] = {{"peak_bytes", s.live.peak_bytes},
                  {"peak_blocks", s.live.peak_blocks},
                  {"end_bytes", s.live.bytes},
                  {"end_blocks", s.live.blocks},
                  {"peak_at_ns", is_trace(s) ? Json(s.peak_ns) : Json(nullptr)}};
  const bool any = s.requests > 0;
  json["requested_bytes"] = {
      {"total", s.requested_total},
      {"min", any ? Json(s.requested_min) : Json(nullptr)},
      {"mean", any ? Json(static_cast<double>(s.requested_total) / static_cast<double>(s.requests))
                   : Json(nullptr)},
      {"max", any ? Json(s.requested_max) : Json(nullptr)}};
  json["requests"] = s.requests;
  json["zero_size_requests"] = s.zero_size_requests;
  json["aligned_requests"] = s.aligned_requests;
  Json sizes = Json::array();
  for (std::size_t i = 0; i < Log2Histogram::kBuckets; ++i) {
    if (s.sizes.count[i] == 0) continue;
    sizes.push_back({{"from_bytes", Log2Histogram::lowest(i)},
                     {"to_bytes", Log2Histogram::highest(i)},
                     {"calls", s.sizes.count[i]},
                     {"requested_bytes", s.sizes.sum[i]}});
  }
  json["size_histogram"] = std::move(sizes);
  json["mappings"] = to_json(s.maps);
  if (is_trace(s)) {
    add_trace_json(json, s);
  } else {
    json["lanes"] = s.lanes;
    json["slots"] = s.slots;
    json["sync_points"] = s.sync_points;
    json["prologue"] = {{"blocks", s.prologue_blocks}, {"bytes", s.prologue_bytes}};
  }
  return json;
}

void print_text(cli::Output& out, const Statistics& s) {
  out.print("{}: {} calls of {} thread{} in {}\n\n", s.path, cli::count(s.api_events),
            cli::count(s.threads), s.threads == 1 ? "" : "s", duration(s.duration_ns));
  print_calls(out, s);

  Table table;
  table.column("", Table::Align::kLeft);
  table.column("", Table::Align::kLeft);
  // Two maxima, which need not fall together.
  table.row({"Live, peak", fmt::format("{}{}, {}", cli::bytes(s.live.peak_bytes),
                                       is_trace(s) ? " at " + duration(s.peak_ns) : std::string(),
                                       blocks_text(s.live.peak_blocks))});
  table.row({"Live, at the end", bytes_and_blocks(s.live.bytes, s.live.blocks)});
  const double mean =
      s.requests == 0 ? 0
                      : static_cast<double>(s.requested_total) / static_cast<double>(s.requests);
  table.row({"Requested",
             fmt::format("{} by {} calls", cli::bytes(s.requested_total), cli::count(s.requests))});
  if (s.requests > 0) {
    table.row({"A request", fmt::format("min {}, mean {}, max {}", cli::bytes(s.requested_min),
                                        cli::bytes(static_cast<std::uint64_t>(mean)),
                                        cli::bytes(s.requested_max))});
  }
  if (is_trace(s)) {
    add_trace_rows(table, s);
  } else {
    table.row({"Lanes", cli::count(s.lanes)});
    table.row({"Slots", cli::count(s.slots)});
    const double per_call =
        s.api_events == 0 ? 0
                          : static_cast<double>(s.sync_points) / static_cast<double>(s.api_events);
    table.row(
        {"Sync points", fmt::format("{} ({:.4f} per call)", cli::count(s.sync_points), per_call)});
    table.row({"Prologue", bytes_and_blocks(s.prologue_bytes, s.prologue_blocks)});
  }
  out.print("\n{}", table.str());
  print_sizes(out, s);
  print_text(out, s.maps);
  if (is_trace(s)) {
    print_lifetimes(out, s);
    print_threads(out, s);
    print_details(out, s);
  }
}

}  // namespace alloctape::analysis

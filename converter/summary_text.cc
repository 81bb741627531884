#include "converter/summary_text.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/units.h"
#include "formats/sync_order.h"

namespace alloctape::converter {
namespace {

double per_op(std::uint64_t n, std::uint64_t ops) {
  return ops == 0 ? 0 : static_cast<double>(n) / static_cast<double>(ops);
}

std::string prologue_text(const ConvertSummary& s) {
  std::string text =
      fmt::format("{} in {} blocks {}", cli::bytes(s.prologue_bytes),
                  cli::count(s.prologue_blocks - s.prologue_unknown_blocks),
                  s.inherited ? "inherited through fork" : "older than the recording");
  if (s.prologue_unknown_blocks != 0) {
    text += fmt::format(", and {} of unknown size", cli::count(s.prologue_unknown_blocks));
  }
  return text;
}

class Lines {
 public:
  void add(const char* label, const std::string& value) {
    text_ += fmt::format("  {:<26}{}\n", label, value);
  }
  // Only what happened is worth a line.
  void add_count(const char* label, std::uint64_t n, const char* note = "") {
    if (n != 0) add(label, cli::count(n) + note);
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

}  // namespace

std::string summary_text(const ConvertSummary& s, const ConvertOptions& options,
                         const std::string& trace, const std::string& workload) {
  Lines lines;
  lines.add("events", cli::count(s.events));
  lines.add("ops", cli::count(s.ops));
  lines.add("threads", s.threads == s.lanes ? cli::count(s.threads)
                                            : fmt::format("{} in {} lanes", cli::count(s.threads),
                                                          cli::count(s.lanes)));
  lines.add("slots", cli::count(s.slots));
  lines.add("sync points",
            fmt::format("{} ({:.4f} per op, order {}{})", cli::count(s.sync_points),
                        per_op(s.sync_points, s.ops), formats::order_name(options.order),
                        options.order == wire::SyncOrder::kBounded
                            ? fmt::format(", window {}", cli::count(options.window_events))
                            : ""));
  lines.add("peak live", fmt::format("{} in {} blocks", cli::bytes(s.peak_live_bytes),
                                     cli::count(s.peak_live_blocks)));
  lines.add("live at the end", fmt::format("{} in {} blocks", cli::bytes(s.end_live_bytes),
                                           cli::count(s.end_live_blocks)));
  lines.add("recorded time", cli::duration_ns(static_cast<double>(s.recorded_ns)));
  if (s.prologue_blocks != 0) lines.add("prologue", prologue_text(s));
  lines.add_count("freed while paused", s.freed_in_gaps);
  lines.add("order inversions",
            fmt::format("{} repaired, {} unrepairable", cli::count(s.order.repaired),
                        cli::count(s.order.unrepairable)));
  lines.add_count("unseen releases", s.order.unseen_releases);
  lines.add_count("unseen queries", s.order.unseen_queries);
  lines.add_count("lost blocks", s.lost_blocks);
  lines.add_count("dropped events", s.dropped_events);
  lines.add_count("corrupt blocks", s.corrupt_blocks);
  lines.add_count("failed calls", s.failed_calls);
  lines.add_count("frees of NULL", s.null_releases);
  lines.add_count("queries of NULL", s.null_queries);
  lines.add_count("reallocs to 0", s.reallocs_to_zero);
  lines.add_count("reallocs from NULL", s.reallocs_from_null);
  if (s.maps.calls != 0) {
    lines.add("calls of mmap's family",
              options.maps
                  ? fmt::format("{} made {} ops", cli::count(s.maps.calls), cli::count(s.maps.ops))
                  : fmt::format("{} left out", cli::count(s.maps.calls)));
  }
  if (s.maps.ops != 0) {
    lines.add("mappings", fmt::format("{}, at most {} at once", cli::count(s.maps.mappings),
                                      cli::bytes(s.maps.peak_mapped_bytes)));
  }
  if (options.maps) {
    lines.add_count("mappings of files", s.maps.other_mappings, " (left out)");
    lines.add_count("moves of the break", s.maps.break_calls, " (left out)");
    lines.add_count("failed map calls", s.maps.failed_calls, " (left out)");
    lines.add_count("calls on unseen maps", s.maps.unseen_calls, " (left out)");
    lines.add_count("advice", s.maps.advice_left_out, " (left out)");
    lines.add_count("remaps of a part", s.maps.cut_remaps, " (made munmap and mmap)");
    lines.add_count("unmaps not recorded", s.maps.missed_unmaps);
  }
  lines.add_count("forks", s.forks);
  lines.add_count("marks", s.marks);
  lines.add_count("threads without an end", s.unended_threads);
  lines.add_count("ops after thread end", s.late_ops, " (done by the lane's next thread)");
  const double rate = s.wall_seconds > 0 ? static_cast<double>(s.events) / s.wall_seconds : 0;
  return fmt::format("{} -> {}\n{}  {:<26}{} from {} in {} ({:.1f} million events/s)\n", trace,
                     workload, lines.take(), "written", cli::bytes(s.workload_bytes),
                     cli::bytes(s.trace_bytes), cli::duration_ns(s.wall_seconds * 1e9), rate / 1e6);
}

std::string summary_json(const ConvertSummary& s, const ConvertOptions& options,
                         const std::string& trace, const std::string& workload) {
  nlohmann::ordered_json json = {
      {"schema", "alloctape.convert/1"},
      {"trace", trace},
      {"workload", workload},
      {"events", s.events},
      {"ops", s.ops},
      {"threads", s.threads},
      {"threads_without_end", s.unended_threads},
      {"lanes", s.lanes},
      {"slots", s.slots},
      {"sync_points", s.sync_points},
      {"sync_points_per_op", per_op(s.sync_points, s.ops)},
      {"sync_order", formats::order_name(options.order)},
      {"window_events", nullptr},
      {"live",
       {{"peak_bytes", s.peak_live_bytes},
        {"peak_blocks", s.peak_live_blocks},
        {"end_bytes", s.end_live_bytes},
        {"end_blocks", s.end_live_blocks}}},
      {"recorded_ns", s.recorded_ns},
      {"order",
       {{"repaired", s.order.repaired},
        {"unrepairable", s.order.unrepairable},
        {"lost_in_gap", s.order.lost_in_gap},
        {"lost_blocks", s.lost_blocks}}},
      {"prologue_blocks", s.prologue_blocks},
      {"prologue_unknown_blocks", s.prologue_unknown_blocks},
      {"prologue_bytes", s.prologue_bytes},
      {"freed_in_gaps", s.freed_in_gaps},
      {"inherited", s.inherited},
      {"unseen_releases", s.order.unseen_releases},
      {"unseen_queries", s.order.unseen_queries},
      {"dropped_events", s.dropped_events},
      {"corrupt_blocks", s.corrupt_blocks},
      {"truncated", s.truncated},
      {"failed_calls", s.failed_calls},
      {"null_releases", s.null_releases},
      {"null_queries", s.null_queries},
      {"reallocs_to_zero", s.reallocs_to_zero},
      {"reallocs_from_null", s.reallocs_from_null},
      {"maps", nullptr},
      {"forks", s.forks},
      {"marks", s.marks},
      {"ops_after_thread_end", s.late_ops},
      {"trace_bytes", s.trace_bytes},
      {"workload_bytes", s.workload_bytes},
      {"wall_ns", static_cast<std::uint64_t>(s.wall_seconds * 1e9)},
  };
  if (options.order == wire::SyncOrder::kBounded) json["window_events"] = options.window_events;
  if (s.maps.calls != 0) {
    json["maps"] = {{"calls", s.maps.calls},
                    {"ops", s.maps.ops},
                    {"mappings", s.maps.mappings},
                    {"peak_bytes", s.maps.peak_mapped_bytes},
                    {"end_bytes", s.maps.end_mapped_bytes},
                    {"left_out",
                     {{"all", !options.maps},
                      {"file_mappings", s.maps.other_mappings},
                      {"break_calls", s.maps.break_calls},
                      {"failed_calls", s.maps.failed_calls},
                      {"unseen_calls", s.maps.unseen_calls},
                      {"advice", s.maps.advice_left_out}}},
                    {"cut_remaps", s.maps.cut_remaps},
                    {"missed_unmaps", s.maps.missed_unmaps}};
  }
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::vector<std::string> summary_warnings(const ConvertSummary& s) {
  std::vector<std::string> warnings;
  if (s.dropped_events != 0) {
    warnings.push_back(fmt::format(
        "the recording dropped {} events: what the workload allocates and frees is not what the "
        "program did (record again with more room, see `alloctape info`)",
        cli::count(s.dropped_events)));
  }
  if (s.order.unrepairable != 0) {
    warnings.push_back(fmt::format(
        "{} calls returned an address that was still live: the recorded order could not be "
        "repaired, "
        "and {} blocks are never freed in the workload (record again with --strict-order)",
        cli::count(s.order.unrepairable), cli::count(s.lost_blocks)));
  }
  if (s.corrupt_blocks != 0) {
    warnings.push_back(fmt::format("{} blocks of the trace are corrupt and end early: {}",
                                   cli::count(s.corrupt_blocks), s.first_corruption));
  }
  if (s.truncated) {
    warnings.push_back("the trace is cut short: the workload ends where it does");
  }
  return warnings;
}

}  // namespace alloctape::converter

#include "analysis/map_statistics_render.h"

#include <fmt/format.h>

#include <string>

#include "cli/table.h"
#include "cli/units.h"

namespace alloctape::analysis {
namespace {

constexpr struct {
  formats::MapKind kind;
  const char* label;
  const char* key;
} kKinds[] = {
    {formats::MapKind::kAnonymous, "anonymous", "anonymous"},
    {formats::MapKind::kReserved, "reserved (no access)", "reserved"},
    {formats::MapKind::kShared, "anonymous, shared", "shared"},
    {formats::MapKind::kFile, "files and devices", "file"},
};

std::string advice_text(std::uint64_t advice) {
  const char* name = formats::advice_name(advice);
  return name != nullptr ? name : fmt::format("{}", advice);
}

Json counts_json(const std::array<std::uint64_t, wire::kMapOpLimit>& counts) {
  Json json = Json::object();
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const char* name = wire::traits(static_cast<wire::Op>(i)).name;
    if (counts[i] != 0 && name != nullptr) json[name] = counts[i];
  }
  return json;
}

void print_calls(cli::Output& out, const MapFigures& f) {
  cli::Table table;
  table.column("Own mappings", cli::Table::Align::kLeft);
  table.column("calls");
  table.column("failed");
  for (std::size_t i = 0; i < f.calls.size(); ++i) {
    if (f.calls[i] == 0) continue;
    table.row({wire::traits(static_cast<wire::Op>(i)).name, cli::count(f.calls[i]),
               f.failed[i] != 0 ? cli::count(f.failed[i]) : "-"});
  }
  out.print("\n{}", table.str());
}

void print_bytes(cli::Output& out, const MapFigures& f) {
  cli::Table table;
  table.column("Mapped", cli::Table::Align::kLeft);
  table.column("peak");
  table.column("at the end");
  table.column("in all");
  for (const auto& k : kKinds) {
    const formats::MapTotals::Bytes& b = f.totals.of(k.kind);
    if (b.total == 0) continue;
    table.row({k.label, cli::bytes(b.peak), cli::bytes(b.now), cli::bytes(b.total)});
  }
  if (f.totals.break_peak > 0) {
    const std::int64_t now = f.totals.break_now > 0 ? f.totals.break_now : 0;
    table.row({"break, moved up by", cli::bytes(static_cast<std::uint64_t>(f.totals.break_peak)),
               cli::bytes(static_cast<std::uint64_t>(now)), "-"});
  }
  out.print("\n{}", table.str());
}

}  // namespace

Json to_json(const MapFigures& f) {
  if (!f.recorded) return nullptr;
  Json json = {{"calls", counts_json(f.calls)}};
  if (f.from_workload) {
    json["peak_bytes"] = f.peak_bytes;
    json["end_bytes"] = f.end_bytes;
    return json;
  }
  json["failed"] = counts_json(f.failed);
  for (const auto& k : kKinds) {
    const formats::MapTotals::Bytes& b = f.totals.of(k.kind);
    json[k.key] = {{"peak_bytes", b.peak}, {"end_bytes", b.now}, {"mapped_bytes", b.total}};
  }
  json["break"] = {{"peak_bytes", f.totals.break_peak}, {"end_bytes", f.totals.break_now}};
  Json advice = Json::object();
  for (const auto& [value, a] : f.advice) {
    advice[advice_text(value)] = {{"calls", a.calls}, {"bytes", a.bytes}};
  }
  json["advice"] = std::move(advice);
  json["mappings"] = {{"peak", f.totals.peak_mappings}, {"end", f.totals.mappings}};
  json["unseen_calls"] = f.totals.unseen_calls;
  json["missed_unmaps"] = f.totals.missed_unmaps;
  return json;
}

void print_text(cli::Output& out, const MapFigures& f) {
  if (!f.recorded) return;
  if (f.all_calls() == 0) {
    out.write("\nOwn mappings: none\n");
    return;
  }
  print_calls(out, f);
  if (f.from_workload) {
    out.print("Own mappings: {} at most, {} at the end\n", cli::bytes(f.peak_bytes),
              cli::bytes(f.end_bytes));
    return;
  }
  print_bytes(out, f);
  if (!f.advice.empty()) {
    cli::Table table;
    table.column("Advice", cli::Table::Align::kLeft);
    table.column("calls");
    table.column("bytes");
    for (const auto& [value, a] : f.advice) {
      table.row({advice_text(value), cli::count(a.calls), cli::bytes(a.bytes)});
    }
    out.print("\n{}", table.str());
  }
  if (f.totals.unseen_calls != 0) {
    out.print("({} calls on what this trace did not see mapped)\n",
              cli::count(f.totals.unseen_calls));
  }
}

}  // namespace alloctape::analysis

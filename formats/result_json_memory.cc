#include "formats/result_json_parts.h"

namespace alloctape::formats::json_parts {
namespace {

Json point_json(const MemoryPoint& p) {
  return {{"moment", p.moment},         {"ns", p.ns},
          {"live_bytes", p.live_bytes}, {"usable_bytes", or_null(p.usable_bytes)},
          {"anon_bytes", p.anon_bytes}, {"lazy_free_bytes", p.lazy_free_bytes},
          {"huge_bytes", p.huge_bytes}, {"vm_bytes", p.vm_bytes}};
}
MemoryPoint read_point(const Json& from) {
  MemoryPoint p;
  read(from, "moment", p.moment);
  read(from, "ns", p.ns);
  read(from, "live_bytes", p.live_bytes);
  read(from, "usable_bytes", p.usable_bytes);
  read(from, "anon_bytes", p.anon_bytes);
  read(from, "lazy_free_bytes", p.lazy_free_bytes);
  read(from, "huge_bytes", p.huge_bytes);
  read(from, "vm_bytes", p.vm_bytes);
  return p;
}

Json parts_json(const std::optional<MemoryParts>& parts) {
  if (!parts) return nullptr;
  return {{"anon_bytes", parts->anon_bytes},          {"requested_bytes", parts->requested_bytes},
          {"slop_bytes", or_null(parts->slop_bytes)}, {"lazy_free_bytes", parts->lazy_free_bytes},
          {"mapped_bytes", parts->mapped_bytes},      {"harness_bytes", parts->harness_bytes},
          {"rest_bytes", parts->rest_bytes}};
}
void read_parts(const Json& from, const char* key, std::optional<MemoryParts>& parts) {
  const auto it = from.find(key);
  if (it == from.end() || it->is_null()) return;
  MemoryParts& p = parts.emplace();
  read(*it, "anon_bytes", p.anon_bytes);
  read(*it, "requested_bytes", p.requested_bytes);
  read(*it, "slop_bytes", p.slop_bytes);
  read(*it, "lazy_free_bytes", p.lazy_free_bytes);
  read(*it, "mapped_bytes", p.mapped_bytes);
  read(*it, "harness_bytes", p.harness_bytes);
  read(*it, "rest_bytes", p.rest_bytes);
}

Json view_json(const std::optional<AllocatorView>& view) {
  if (!view) return nullptr;
  return {{"source", view->source}, {"figures", view->figures}};
}
void read_view(const Json& from, const char* key, std::optional<AllocatorView>& view) {
  const auto it = from.find(key);
  if (it == from.end() || it->is_null()) return;
  AllocatorView& v = view.emplace();
  read(*it, "source", v.source);
  if (const auto figures = it->find("figures"); figures != it->end())
    for (const auto& [name, value] : figures->items()) convert(value, v.figures[name]);
}

}  // namespace

void add_memory(Json& to, const RunResult& run) {
  to["memory_points"] = Json::array();
  for (const MemoryPoint& point : run.memory_points)
    to["memory_points"].push_back(point_json(point));
  to["decomposition"] = {{"peak", parts_json(run.parts_at_peak)},
                         {"end", parts_json(run.parts_at_end)}};
  to["freed_rss_bytes"] = or_null(run.freed_rss_bytes);
  to["settled_rss_bytes"] = or_null(run.settled_rss_bytes);
  to["settle_ns"] = or_null(run.settle_ns);
  to["purges"] =
      run.purge_by.empty()
          ? Json(nullptr)
          : Json{{"count", run.purges}, {"by", run.purge_by}, {"total_ns", run.purge_ns}};
  to["harness_rss_bytes"] = or_null(run.harness_rss_bytes);
  to["allocator_view"] = {{"peak", view_json(run.view_at_peak)},
                          {"end", view_json(run.view_at_end)}};
}

void read_memory(const Json& from, RunResult& run) {
  if (const auto it = from.find("memory_points"); it != from.end() && !it->is_null())
    for (const Json& one : *it) run.memory_points.push_back(read_point(one));
  if (const auto it = from.find("decomposition"); it != from.end() && !it->is_null()) {
    read_parts(*it, "peak", run.parts_at_peak);
    read_parts(*it, "end", run.parts_at_end);
  }
  read(from, "freed_rss_bytes", run.freed_rss_bytes);
  read(from, "settled_rss_bytes", run.settled_rss_bytes);
  read(from, "settle_ns", run.settle_ns);
  if (const auto it = from.find("purges"); it != from.end() && !it->is_null()) {
    read(*it, "count", run.purges);
    read(*it, "by", run.purge_by);
    read(*it, "total_ns", run.purge_ns);
  }
  read(from, "harness_rss_bytes", run.harness_rss_bytes);
  if (const auto it = from.find("allocator_view"); it != from.end() && !it->is_null()) {
    read_view(*it, "peak", run.view_at_peak);
    read_view(*it, "end", run.view_at_end);
  }
}

}  // namespace alloctape::formats::json_parts

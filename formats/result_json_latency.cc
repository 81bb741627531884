#include "formats/result_json_parts.h"

namespace alloctape::formats::json_parts {
namespace {

Json summary_json(const LatencySummary& l) {
  return {{"count", l.count},       {"mean_ns", l.mean_ns}, {"p50_ns", l.p50_ns},
          {"p90_ns", l.p90_ns},     {"p99_ns", l.p99_ns},   {"p999_ns", l.p999_ns},
          {"p9999_ns", l.p9999_ns}, {"max_ns", l.max_ns}};
}
LatencySummary read_summary(const Json& from) {
  LatencySummary l;
  read(from, "count", l.count);
  read(from, "mean_ns", l.mean_ns);
  read(from, "p50_ns", l.p50_ns);
  read(from, "p90_ns", l.p90_ns);
  read(from, "p99_ns", l.p99_ns);
  read(from, "p999_ns", l.p999_ns);
  read(from, "p9999_ns", l.p9999_ns);
  read(from, "max_ns", l.max_ns);
  return l;
}

Json by_size_json(const SizeLatency& l) {
  Json j = summary_json(l.summary);
  j["from_bytes"] = l.from_bytes;
  j["to_bytes"] = or_null(l.to_bytes);
  j["histogram"] = {{"ns", l.bucket_ns}, {"calls", l.bucket_calls}};
  return j;
}
SizeLatency read_by_size(const Json& from) {
  SizeLatency l;
  l.summary = read_summary(from);
  read(from, "from_bytes", l.from_bytes);
  read(from, "to_bytes", l.to_bytes);
  if (const auto it = from.find("histogram"); it != from.end() && !it->is_null()) {
    read(*it, "ns", l.bucket_ns);
    read(*it, "calls", l.bucket_calls);
  }
  return l;
}

Json slow_call_json(const SlowCall& c) {
  return {{"ns", c.ns},
          {"op", c.op},
          {"op_index", c.op_index},
          {"lane", c.lane},
          {"thread", or_null(c.thread)},
          {"size_bytes", c.size_bytes},
          {"slot", c.slot},
          {"at_ns", c.at_ns},
          {"page_faults", or_null(c.page_faults)},
          {"switches", or_null(c.switches)}};
}
SlowCall read_slow_call(const Json& from) {
  SlowCall c;
  read(from, "ns", c.ns);
  read(from, "op", c.op);
  read(from, "op_index", c.op_index);
  read(from, "lane", c.lane);
  read(from, "thread", c.thread);
  read(from, "size_bytes", c.size_bytes);
  read(from, "slot", c.slot);
  read(from, "at_ns", c.at_ns);
  read(from, "page_faults", c.page_faults);
  read(from, "switches", c.switches);
  return c;
}

}  // namespace

void add_latencies(Json& to, const RunResult& run) {
  to["latency"] = Json::object();
  for (const auto& [op, latency] : run.latency) to["latency"][op] = summary_json(latency);
  to["latency_by_size"] = Json::object();
  for (const auto& [op, classes] : run.latency_by_size) {
    Json& list = to["latency_by_size"][op] = Json::array();
    for (const SizeLatency& one : classes) list.push_back(by_size_json(one));
  }
  to["slowest_calls"] = Json::array();
  for (const SlowCall& call : run.slowest_calls)
    to["slowest_calls"].push_back(slow_call_json(call));
  to["latency_error"] = or_null(run.latency_error);
  to["fault_check_ns"] = or_null(run.fault_check_ns);
  to["faulted_calls"] = or_null(run.faulted_calls);
  to["call_faults"] = or_null(run.call_faults);
}

void read_latencies(const Json& from, RunResult& run) {
  if (const auto it = from.find("latency"); it != from.end() && !it->is_null())
    for (const auto& [op, latency] : it->items()) run.latency[op] = read_summary(latency);
  if (const auto it = from.find("latency_by_size"); it != from.end() && !it->is_null())
    for (const auto& [op, classes] : it->items())
      for (const Json& one : classes) run.latency_by_size[op].push_back(read_by_size(one));
  if (const auto it = from.find("slowest_calls"); it != from.end() && !it->is_null())
    for (const Json& one : *it) run.slowest_calls.push_back(read_slow_call(one));
  read(from, "latency_error", run.latency_error);
  read(from, "fault_check_ns", run.fault_check_ns);
  read(from, "faulted_calls", run.faulted_calls);
  read(from, "call_faults", run.call_faults);
}

}  // namespace alloctape::formats::json_parts

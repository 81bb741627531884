#include "formats/result_json_parts.h"

namespace alloctape::formats::json_parts {
namespace {

using ByFunction = std::map<std::string, SyscallFigures>;

Json functions_json(const ByFunction& functions) {
  Json j = Json::object();
  for (const auto& [name, f] : functions)
    j[name] = {{"count", f.count},
               {"failed", f.failed},
               {"total_ns", f.total_ns},
               {"max_ns", f.max_ns},
               {"bytes", f.bytes}};
  return j;
}
ByFunction read_functions(const Json& from) {
  ByFunction functions;
  for (const auto& [name, one] : from.items()) {
    SyscallFigures& f = functions[name];
    read(one, "count", f.count);
    read(one, "failed", f.failed);
    read(one, "total_ns", f.total_ns);
    read(one, "max_ns", f.max_ns);
    read(one, "bytes", f.bytes);
  }
  return functions;
}

}  // namespace

void add_syscalls(Json& to, const RunResult& run) {
  if (!run.syscalls) {
    to["syscalls"] = nullptr;
    return;
  }
  Json lanes = Json::object();
  for (const auto& [lane, functions] : run.syscalls->by_lane)
    lanes[lane] = functions_json(functions);
  to["syscalls"] = {{"available", run.syscalls->available},
                    {"overhead_ns", run.syscalls->overhead_ns},
                    {"by_function", functions_json(run.syscalls->by_function)},
                    {"by_lane", lanes}};
}

void read_syscalls(const Json& from, RunResult& run) {
  const auto it = from.find("syscalls");
  if (it == from.end() || it->is_null()) return;
  SyscallCounts& s = run.syscalls.emplace();
  read(*it, "available", s.available);
  read(*it, "overhead_ns", s.overhead_ns);
  if (const auto f = it->find("by_function"); f != it->end()) s.by_function = read_functions(*f);
  if (const auto lanes = it->find("by_lane"); lanes != it->end())
    for (const auto& [lane, functions] : lanes->items())
      s.by_lane[lane] = read_functions(functions);
}

}  // namespace alloctape::formats::json_parts

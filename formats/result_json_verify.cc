#include "formats/result_json_parts.h"

namespace alloctape::formats::json_parts {
namespace {

Json fault_json(const VerifyFault& f) {
  return {{"kind", f.kind},           {"message", f.message},
          {"op", text_or_null(f.op)}, {"op_index", or_null(f.op_index)},
          {"lane", or_null(f.lane)},  {"thread", or_null(f.thread)},
          {"slot", f.slot},           {"size_bytes", f.size_bytes},
          {"address", f.address}};
}
VerifyFault read_fault(const Json& from) {
  VerifyFault f;
  read(from, "kind", f.kind);
  read(from, "message", f.message);
  read(from, "op", f.op);
  read(from, "op_index", f.op_index);
  read(from, "lane", f.lane);
  read(from, "thread", f.thread);
  read(from, "slot", f.slot);
  read(from, "size_bytes", f.size_bytes);
  read(from, "address", f.address);
  return f;
}

}  // namespace

void add_verification(Json& to, const RunResult& run) {
  if (!run.verification) {
    to["verification"] = nullptr;
    return;
  }
  const Verification& v = *run.verification;
  Json first = Json::array();
  for (const VerifyFault& fault : v.first) first.push_back(fault_json(fault));
  to["verification"] = {
      {"faults", v.faults}, {"blocks", v.blocks}, {"bytes", v.bytes}, {"first", first}};
}

void read_verification(const Json& from, RunResult& run) {
  const auto it = from.find("verification");
  if (it == from.end() || it->is_null()) return;
  Verification& v = run.verification.emplace();
  read(*it, "faults", v.faults);
  read(*it, "blocks", v.blocks);
  read(*it, "bytes", v.bytes);
  if (const auto first = it->find("first"); first != it->end())
    for (const Json& one : *first) v.first.push_back(read_fault(one));
}

}  // namespace alloctape::formats::json_parts

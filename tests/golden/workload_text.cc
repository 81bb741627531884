#include "tests/golden/workload_text.h"

#include <fmt/format.h>

#include <iterator>
#include <utility>

#include "formats/workload_cursor.h"

namespace alloctape::formats {
namespace {

std::string op_text(const OpView& op) {
  const char* name = wire::traits(op.op).name;
  std::string text = name != nullptr ? name : fmt::format("op {}", static_cast<int>(op.op));
  switch (op.op) {
    case wire::Op::kWait:
      text += fmt::format(" lane={} position={}", op.slot, op.size);
      break;
    case wire::Op::kSpawn:
      text += fmt::format(" lane={}", op.size);
      break;
    case wire::Op::kTime:
      text += fmt::format(" ns={}", op.size);
      break;
    case wire::Op::kExit:
      break;
    default:
      text += fmt::format(" slot={} size={}", op.slot, op.size);
      if (op.offset != 0) text += fmt::format(" offset={}", op.offset);
      if (op.value != 0) text += fmt::format(" value={:#x}", op.value);
      if (op.alignment != 0) text += fmt::format(" alignment={}", op.alignment);
      if (op.count != 0) text += fmt::format(" count={}", op.count);
      if (op.flags & wire::kOpFailed) text += " failed";
      if (op.flags & wire::kOpFromNull) text += " from_null";
      if (op.flags & wire::kOpFreesBlock) text += " frees_block";
      if (op.flags & wire::kOpInPlace) text += " in_place";
  }
  return text + (op.publish ? " publish" : "");
}

}  // namespace

std::string workload_text(const WorkloadFile& file) {
  std::string text;
  auto out = std::back_inserter(text);
  const wire::WorkloadHeader& h = file.header();
  fmt::format_to(out,
                 "version={} order={} lanes={} threads={} slots={} ops={} sync_points={} "
                 "prologue_blocks={}\n"
                 "peak_live_bytes={} peak_live_blocks={} end_live_bytes={} end_live_blocks={} "
                 "recorded_ns={}\n",
                 h.version, static_cast<unsigned>(h.order), h.lanes, h.threads, h.slots, h.ops,
                 h.sync_points, h.prologue_blocks, h.peak_live_bytes, h.peak_live_blocks,
                 h.end_live_bytes, h.end_live_blocks, h.recorded_ns);
  fmt::format_to(out, "provenance={}\n", file.provenance());
  for (int i = 0; i < wire::kMapOpLimit; ++i) {
    if (h.ops_by_kind[i] == 0) continue;
    fmt::format_to(out, "calls {}={}\n", wire::traits(static_cast<wire::Op>(i)).name,
                   h.ops_by_kind[i]);
  }
  for (const auto& t : file.threads()) {
    fmt::format_to(out, "thread {} lane={} words={}..{} ops={} ns={}..{}\n", t.thread, t.lane,
                   t.first_word, t.end_word, t.ops, t.start_ns, t.end_ns);
  }
  for (const auto& p : file.live_curve()) {
    fmt::format_to(out, "live ns={} ops={} bytes={}\n", p.ns, p.ops, p.bytes);
  }
  for (const auto& p : file.rss_curve()) {
    fmt::format_to(out, "rss ns={} ops={} bytes={}\n", p.ns, p.ops, p.bytes);
  }
  for (std::size_t lane = 0; lane < file.lanes().size(); ++lane) {
    const wire::LaneEntry& entry = file.lanes()[lane];
    if (lane + 1 == file.lanes().size()) {
      fmt::format_to(out, "prologue words={}\n", entry.words);
    } else {
      fmt::format_to(out, "lane {} words={} threads={}\n", lane, entry.words, entry.threads);
    }
    std::string last;
    std::uint64_t repeats = 0;
    const auto end_run = [&] {
      if (repeats != 0) fmt::format_to(out, "  ({} more like it)\n", repeats);
      repeats = 0;
    };
    for (const auto& chunk : file.chunks().subspan(entry.first_chunk, entry.chunks)) {
      const auto words = file.words(chunk);
      const std::uint64_t* end = words.data() + words.size();
      for (const std::uint64_t* p = words.data(); p < end;) {
        const OpView op = decode(p, end);
        if (!op) return text + "undecodable\n";
        std::string line = op_text(op);
        if (line == last) {
          ++repeats;
        } else {
          end_run();
          fmt::format_to(out, "  {} {}\n",
                         chunk.first_word + static_cast<std::uint64_t>(p - words.data()), line);
          last = std::move(line);
        }
        p += op.words;
      }
    }
    end_run();
  }
  return text;
}

}  // namespace alloctape::formats

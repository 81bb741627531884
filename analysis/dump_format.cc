#include "analysis/dump_format.h"

#include <fmt/format.h>

#include <string_view>

#include "analysis/input.h"
#include "analysis/json.h"
#include "formats/wire/event_word.h"
#include "formats/wire/opcodes.h"
#include "formats/wire/workload_layout.h"

namespace alloctape::analysis {
namespace {

using formats::Event;

struct PathName {
  std::uint16_t bit;
  const char* name;
};
constexpr PathName kPathNames[] = {
    {wire::kPathMapped, "mapped"}, {wire::kPathOtherArena, "other_arena"},
    {wire::kPathGrew, "grew"},     {wire::kPathMoved, "moved"},
    {wire::kPathFailed, "failed"}, {wire::kPathBootstrap, "bootstrap"},
    {wire::kPathLate, "late"}};

constexpr PathName kFlagNames[] = {{wire::kOpFailed, "failed"},
                                   {wire::kOpFromNull, "from_null"},
                                   {wire::kOpFreesBlock, "frees_block"},
                                   {wire::kOpSizeKnown, "size_known"}};

template <std::size_t N>
std::string join(const PathName (&names)[N], unsigned bits, const char* before, const char* between,
                 const char* after) {
  std::string out;
  for (const PathName& p : names) {
    if (!(bits & p.bit)) continue;
    if (!out.empty()) out += between;
    out += before;
    out += p.name;
    out += after;
  }
  return out;
}

// Columns without a value at the end of a line leave no spaces there.
void write_line(cli::Output& out, std::string line) {
  line.resize(line.find_last_not_of(' ') + 1);
  line += '\n';
  out.write(line);
}

const char* name_of(wire::Op op) {
  const char* name = wire::traits(op).name;
  return name != nullptr ? name : "unknown";
}

// Sizes belong to what asks for memory, and to releases that were told one.
bool shows_size(const Event& e) { return wire::traits(e.op).takes_size; }
bool shows_pointer(const Event& e) { return wire::op_class(e.op) != wire::OpClass::kMeta; }
bool is_resize(wire::Op op) { return wire::op_class(op) == wire::OpClass::kResize; }

}  // namespace

std::optional<DumpFormat> parse_dump_format(const std::string& name) {
  if (name == "text") return DumpFormat::kText;
  if (name == "csv") return DumpFormat::kCsv;
  if (name == "jsonl") return DumpFormat::kJsonl;
  return std::nullopt;
}

EventPrinter::EventPrinter(cli::Output& out, DumpFormat format, const formats::TraceFile& file)
    : out_(out), format_(format), file_(file) {}

void EventPrinter::header() {
  if (format_ == DumpFormat::kText) {
    out_.print("{:>15}  {:>6}  {:<24} {:>18} {:>12}  {}\n", "time_ns", "thread", "op", "pointer",
               "size", "more");
  } else if (format_ == DumpFormat::kCsv) {
    out_.write(
        "time_ns,thread,op,pointer,size,old_pointer,release_time_ns,count,alignment,value,path,"
        "offset,usable,old_usable,duration_ns,text\n");
  }
}

void EventPrinter::print(const Event& event) {
  if (wire::is_map_op(event.op)) return print_map(event);
  switch (format_) {
    case DumpFormat::kText:
      return print_text(event);
    case DumpFormat::kCsv:
      return print_csv(event);
    case DumpFormat::kJsonl:
      return print_jsonl(event);
  }
}

void EventPrinter::print_text(const Event& e) {
  const std::string pointer = shows_pointer(e) ? fmt::format("{:#x}", e.pointer) : std::string();
  const std::string size = shows_size(e) ? fmt::format("{}", e.size) : std::string();
  std::string more;
  if (is_resize(e.op)) more += fmt::format(" from {:#x}", e.old_pointer);
  if (e.count != 0) more += fmt::format(" count {}", e.count);
  if (e.alignment != 0) more += fmt::format(" align {}", e.alignment);
  if (e.op == wire::Op::kMallocUsableSize) more += fmt::format(" = {}", e.value);
  if (e.op == wire::Op::kThreadStart) more += fmt::format(" tid {}", e.value);
  if (e.notes & formats::kNoteUsable) more += fmt::format(" usable {}", e.usable);
  if (e.notes & formats::kNoteOldUsable) more += fmt::format(" old usable {}", e.old_usable);
  if (e.notes & formats::kNoteDuration) {
    more += fmt::format(" took {} ns", file_.duration_ns(e.duration_ticks));
  }
  const std::string path = join(kPathNames, e.path, "", ",", "");
  if (!path.empty()) more += " [" + path + "]";
  write_line(out_,
             fmt::format("{:>15}  {:>6}  {:<24} {:>18} {:>12} {}", file_.to_ns(e.stamp),
                         static_cast<std::uint32_t>(e.thread), name_of(e.op), pointer, size, more));
}

void EventPrinter::print_csv(const Event& e) {
  // The one name with a comma would break the columns.
  const std::string_view name = name_of(e.op);
  const char* quote = name.find(',') != std::string_view::npos ? "\"" : "";
  out_.print("{},{},{}{}{},", file_.to_ns(e.stamp), static_cast<std::uint32_t>(e.thread), quote,
             name, quote);
  if (shows_pointer(e)) out_.print("{:#x}", e.pointer);
  out_.write(",");
  if (shows_size(e)) out_.print("{}", e.size);
  out_.write(",");
  if (is_resize(e.op)) {
    out_.print("{:#x},{}", e.old_pointer, file_.to_ns(e.release_stamp));
  } else {
    out_.write(",");
  }
  out_.write(",");
  if (e.count != 0) out_.print("{}", e.count);
  out_.write(",");
  if (e.alignment != 0) out_.print("{}", e.alignment);
  out_.write(",");
  if (e.op == wire::Op::kMallocUsableSize || e.op == wire::Op::kThreadStart) {
    out_.print("{}", e.value);
  }
  out_.print(",{},{},", join(kPathNames, e.path, "", "|", ""), e.offset);
  if (e.notes & formats::kNoteUsable) out_.print("{}", e.usable);
  out_.write(",");
  if (e.notes & formats::kNoteOldUsable) out_.print("{}", e.old_usable);
  out_.write(",");
  if (e.notes & formats::kNoteDuration) out_.print("{}", file_.duration_ns(e.duration_ticks));
  out_.write(",\n");
}

void EventPrinter::print_jsonl(const Event& e) {
  out_.print(R"({{"time_ns":{},"thread":{},"op":"{}")", file_.to_ns(e.stamp),
             static_cast<std::uint32_t>(e.thread), name_of(e.op));
  if (shows_pointer(e)) out_.print(R"(,"pointer":"{:#x}")", e.pointer);
  if (shows_size(e)) out_.print(R"(,"size":{})", e.size);
  if (is_resize(e.op)) {
    out_.print(R"(,"old_pointer":"{:#x}","release_time_ns":{})", e.old_pointer,
               file_.to_ns(e.release_stamp));
  }
  if (e.count != 0) out_.print(R"(,"count":{})", e.count);
  if (e.alignment != 0) out_.print(R"(,"alignment":{})", e.alignment);
  if (e.op == wire::Op::kMallocUsableSize) out_.print(R"(,"value":{})", e.value);
  if (e.op == wire::Op::kThreadStart) out_.print(R"(,"tid":{})", e.value);
  if (e.notes & formats::kNoteUsable) out_.print(R"(,"usable":{})", e.usable);
  if (e.notes & formats::kNoteOldUsable) out_.print(R"(,"old_usable":{})", e.old_usable);
  if (e.notes & formats::kNoteDuration) {
    out_.print(R"(,"duration_ns":{})", file_.duration_ns(e.duration_ticks));
  }
  const std::string path = join(kPathNames, e.path, "\"", ",", "\"");
  if (!path.empty()) out_.print(R"(,"path":[{}])", path);
  out_.print(R"(,"offset":{}}})"
             "\n",
             e.offset);
}

void EventPrinter::print(const formats::TraceMark& mark) {
  const std::uint64_t ns = file_.to_ns(mark.stamp);
  if (format_ == DumpFormat::kText) {
    std::string line = fmt::format("{:>15}  {:>6}  {:<24} {:>18} {:>12}  \"{}\"", ns, "-", "mark",
                                   "", "", printable(mark.text));
    if (mark.tid != 0) line += fmt::format(" tid {}", mark.tid);
    write_line(out_, std::move(line));
  } else if (format_ == DumpFormat::kCsv) {
    std::string text;
    for (const char ch : printable(mark.text)) text += ch == '"' ? "\"\"" : std::string(1, ch);
    out_.print("{},,mark,,,,,,,{},,,,,,\"{}\"\n", ns,
               mark.tid != 0 ? fmt::format("{}", mark.tid) : "", text);
  } else {
    Json json = {{"time_ns", ns}, {"op", "mark"}, {"text", printable(mark.text)}};
    if (mark.tid != 0) json["tid"] = mark.tid;
    out_.write(json.dump() + "\n");
  }
}

void OpPrinter::header() {
  if (format_ == DumpFormat::kText) {
    out_.print("{:>8}  {:>12}  {:<24} {:>12} {:>12}  {}\n", "lane", "position", "op", "slot",
               "size", "more");
  } else if (format_ == DumpFormat::kCsv) {
    out_.write(
        "lane,position,op,slot,size,alignment,count,flags,publish,other_lane,other_position,"
        "time_ns,offset\n");
  }
}

void OpPrinter::print(std::optional<std::uint32_t> lane, const LaneOp& op) {
  if (wire::is_map_op(op.view.op)) return print_map(lane, op);
  switch (format_) {
    case DumpFormat::kText:
      return print_text(lane, op);
    case DumpFormat::kCsv:
      return print_csv(lane, op);
    case DumpFormat::kJsonl:
      return print_jsonl(lane, op);
  }
}

void OpPrinter::print_text(std::optional<std::uint32_t> lane, const LaneOp& op) {
  const formats::OpView& view = op.view;
  const bool api = wire::is_api_op(view.op);
  const std::string lane_name = lane ? fmt::format("{}", *lane) : std::string("prologue");
  const std::string slot = api ? fmt::format("{}", view.slot) : std::string();
  const std::string size =
      api && wire::traits(view.op).takes_size ? fmt::format("{}", view.size) : std::string();
  std::string more;
  if (view.count != 0) more += fmt::format(" count {}", view.count);
  if (view.alignment != 0) more += fmt::format(" align {}", view.alignment);
  if (view.op == wire::Op::kWait) {
    more += fmt::format(" for lane {} position {}", view.slot, view.size);
  }
  if (view.op == wire::Op::kSpawn) more += fmt::format(" lane {}", view.size);
  if (view.op == wire::Op::kTime) more += fmt::format(" {} ns", view.size);
  const std::string flags = join(kFlagNames, view.flags, "", ",", "");
  if (!flags.empty()) more += " [" + flags + "]";
  if (view.publish) more += " publish";
  write_line(out_, fmt::format("{:>8}  {:>12}  {:<24} {:>12} {:>12} {}", lane_name, op.position,
                               name_of(view.op), slot, size, more));
}

void OpPrinter::print_csv(std::optional<std::uint32_t> lane, const LaneOp& op) {
  const formats::OpView& view = op.view;
  const bool api = wire::is_api_op(view.op);
  const std::string_view name = name_of(view.op);
  const char* quote = name.find(',') != std::string_view::npos ? "\"" : "";
  if (lane) {
    out_.print("{}", *lane);
  } else {
    out_.write("prologue");
  }
  out_.print(",{},{}{}{},", op.position, quote, name, quote);
  if (api) out_.print("{}", view.slot);
  out_.write(",");
  if (api && wire::traits(view.op).takes_size) out_.print("{}", view.size);
  out_.write(",");
  if (view.alignment != 0) out_.print("{}", view.alignment);
  out_.write(",");
  if (view.count != 0) out_.print("{}", view.count);
  out_.print(",{},{},", join(kFlagNames, view.flags, "", "|", ""), view.publish ? 1 : 0);
  if (view.op == wire::Op::kWait) {
    out_.print("{},{}", view.slot, view.size);
  } else if (view.op == wire::Op::kSpawn) {
    out_.print("{},", view.size);
  } else {
    out_.write(",");
  }
  out_.write(",");
  if (view.op == wire::Op::kTime) out_.print("{}", view.size);
  out_.print(",{}\n", op.offset);
}

void OpPrinter::print_jsonl(std::optional<std::uint32_t> lane, const LaneOp& op) {
  const formats::OpView& view = op.view;
  if (lane) {
    out_.print(R"({{"lane":{})", *lane);
  } else {
    out_.write(R"({"lane":"prologue")");
  }
  out_.print(R"(,"position":{},"op":"{}")", op.position, name_of(view.op));
  if (wire::is_api_op(view.op)) {
    out_.print(R"(,"slot":{})", view.slot);
    if (wire::traits(view.op).takes_size) out_.print(R"(,"size":{})", view.size);
  }
  if (view.alignment != 0) out_.print(R"(,"alignment":{})", view.alignment);
  if (view.count != 0) out_.print(R"(,"count":{})", view.count);
  if (view.op == wire::Op::kWait) {
    out_.print(R"(,"other_lane":{},"other_position":{})", view.slot, view.size);
  }
  if (view.op == wire::Op::kSpawn) out_.print(R"(,"other_lane":{})", view.size);
  if (view.op == wire::Op::kTime) out_.print(R"(,"time_ns":{})", view.size);
  const std::string flags = join(kFlagNames, view.flags, "\"", ",", "\"");
  if (!flags.empty()) out_.print(R"(,"flags":[{}])", flags);
  if (view.publish) out_.write(R"(,"publish":true)");
  out_.print(R"(,"offset":{}}})"
             "\n",
             op.offset);
}

}  // namespace alloctape::analysis

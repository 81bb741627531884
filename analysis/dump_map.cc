// Lines for mmap and its family, whose arguments are others than malloc's.
#include <fmt/format.h>

#include "analysis/dump_format.h"
#include "formats/map_tracker.h"
#include "formats/wire/map_event.h"
#include "formats/wire/opcodes.h"

namespace alloctape::analysis {
namespace {

using formats::Event;
using formats::OpView;

const char* backing_name(std::uint64_t backing) {
  switch (static_cast<wire::Backing>(backing)) {
    case wire::Backing::kAnonymous:
      return "anonymous";
    case wire::Backing::kFile:
      return "file";
    case wire::Backing::kDevice:
      return "device";
    default:
      return "other";
  }
}

std::string advice_text(std::uint64_t advice) {
  const char* name = formats::advice_name(advice);
  return name != nullptr ? name : fmt::format("{}", advice);
}

// sbrk takes a signed number, and brk none.
std::string size_text(const Event& e) {
  if (e.op == wire::Op::kBrk) return {};
  if (e.op == wire::Op::kSbrk) return fmt::format("{}", static_cast<std::int64_t>(e.size));
  return fmt::format("{}", e.size);
}

std::string prot_and_flags(std::uint64_t value) {
  return formats::prot_text(wire::map_prot(value)) + " " +
         formats::map_flags_text(wire::map_flags(value));
}

std::string details(const Event& e) {
  std::string text;
  switch (e.op) {
    case wire::Op::kMmap:
      text = " " + prot_and_flags(e.value);
      if (e.alignment != 0) text += fmt::format(" of a {}", backing_name(e.alignment));
      if (e.count != 0) text += fmt::format(" offset {}", e.count);
      if (e.old_pointer != 0) text += fmt::format(" at {:#x}", e.old_pointer);
      break;
    case wire::Op::kMremap:
      text = fmt::format(" from {:#x} size {}", e.old_pointer, e.count);
      if (e.value & wire::kRemapMayMove) text += " MREMAP_MAYMOVE";
      if (e.value & wire::kRemapFixed) text += " MREMAP_FIXED";
      if (e.value & wire::kRemapDontUnmap) text += " MREMAP_DONTUNMAP";
      break;
    case wire::Op::kMadvise:
      text = " " + advice_text(e.value);
      break;
    case wire::Op::kBrk:
      text = fmt::format(" from {:#x}", e.old_pointer);
      break;
    default:
      break;
  }
  return e.failed() ? text + " [failed]" : text;
}

std::string details_json(const Event& e) {
  switch (e.op) {
    case wire::Op::kMmap:
      return fmt::format(
          R"(,"at":"{:#x}","prot":"{}","flags":"{}","backing":"{}","file_offset":{})",
          e.old_pointer, formats::prot_text(wire::map_prot(e.value)),
          formats::map_flags_text(wire::map_flags(e.value)), backing_name(e.alignment), e.count);
    case wire::Op::kMremap:
      return fmt::format(R"(,"old_pointer":"{:#x}","old_size":{},"flags":{})", e.old_pointer,
                         e.count, e.value);
    case wire::Op::kMadvise:
      return fmt::format(R"(,"advice":"{}")", advice_text(e.value));
    case wire::Op::kBrk:
      return fmt::format(R"(,"old_pointer":"{:#x}")", e.old_pointer);
    default:
      return {};
  }
}

std::string op_details(const OpView& op) {
  std::string text;
  if (op.op != wire::Op::kMremap) text += fmt::format(" offset {}", op.offset);
  if (op.op == wire::Op::kMmap) text += " " + prot_and_flags(op.value);
  if (op.op == wire::Op::kMadvise) text += " " + advice_text(op.value);
  if (op.flags & wire::kOpFreesBlock) text += " [last part]";
  if (op.flags & wire::kOpInPlace) text += " [in place]";
  if (op.publish) text += " publish";
  return text;
}

std::string op_details_json(const OpView& op) {
  std::string text;
  if (op.op != wire::Op::kMremap) text += fmt::format(R"(,"part_offset":{})", op.offset);
  if (op.op == wire::Op::kMmap) {
    text += fmt::format(R"(,"prot":"{}","map_flags":"{}")",
                        formats::prot_text(wire::map_prot(op.value)),
                        formats::map_flags_text(wire::map_flags(op.value)));
  }
  if (op.op == wire::Op::kMadvise) text += fmt::format(R"(,"advice":"{}")", advice_text(op.value));
  if (op.flags & wire::kOpFreesBlock) text += R"(,"flags":["last_part"])";
  if (op.flags & wire::kOpInPlace) text += R"(,"flags":["in_place"])";
  if (op.publish) text += R"(,"publish":true)";
  return text;
}

}  // namespace

void EventPrinter::print_map(const Event& e) {
  const std::uint64_t ns = file_.to_ns(e.stamp);
  const auto thread = static_cast<std::uint32_t>(e.thread);
  const char* name = wire::traits(e.op).name;
  if (format_ == DumpFormat::kText) {
    out_.print("{:>15}  {:>6}  {:<24} {:>18} {:>12} {}\n", ns, thread, name,
               fmt::format("{:#x}", e.pointer), size_text(e), details(e));
  } else if (format_ == DumpFormat::kCsv) {
    // The columns of all events, and four that are empty here.
    out_.print("{},{},{},{:#x},{},{:#x},{},{},{},{},{},{},,,,\n", ns, thread, name, e.pointer,
               size_text(e), e.old_pointer, file_.to_ns(e.release_stamp), e.count, e.alignment,
               e.value, e.failed() ? "failed" : "", e.offset);
  } else {
    const std::string size = size_text(e);
    out_.print(R"({{"time_ns":{},"thread":{},"op":"{}","pointer":"{:#x}")", ns, thread, name,
               e.pointer);
    if (!size.empty()) out_.print(R"(,"size":{})", size);
    out_.print(R"({},"release_time_ns":{})", details_json(e), file_.to_ns(e.release_stamp));
    if (e.failed()) out_.write(R"(,"path":["failed"])");
    out_.print(R"(,"offset":{}}})"
               "\n",
               e.offset);
  }
}

void OpPrinter::print_map(std::optional<std::uint32_t> lane, const LaneOp& op) {
  const OpView& view = op.view;
  const char* name = wire::traits(view.op).name;
  const std::string lane_name = lane ? fmt::format("{}", *lane) : std::string("prologue");
  if (format_ == DumpFormat::kText) {
    out_.print("{:>8}  {:>12}  {:<24} {:>12} {:>12} {}\n", lane_name, op.position, name, view.slot,
               view.size, op_details(view));
  } else if (format_ == DumpFormat::kCsv) {
    const char* flags = view.flags & wire::kOpFreesBlock ? "last_part"
                        : view.flags & wire::kOpInPlace  ? "in_place"
                                                         : "";
    out_.print("{},{},{},{},{},,,{},{},,,,{}\n", lane_name, op.position, name, view.slot, view.size,
               flags, view.publish ? 1 : 0, op.offset);
  } else {
    out_.print(R"({{"lane":{},"position":{},"op":"{}","slot":{},"size":{}{},"offset":{}}})"
               "\n",
               lane ? lane_name : "\"prologue\"", op.position, name, view.slot, view.size,
               op_details_json(view), op.offset);
  }
}

}  // namespace alloctape::analysis

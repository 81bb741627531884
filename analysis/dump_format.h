// One line for each event or op, as text, csv or jsonl.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "analysis/lane_cursor.h"
#include "cli/output.h"
#include "formats/event.h"
#include "formats/trace_file.h"

namespace alloctape::analysis {

enum class DumpFormat { kText, kCsv, kJsonl };
std::optional<DumpFormat> parse_dump_format(const std::string& name);

// Addresses are printed in hexadecimal, sizes in bytes, times in ns since the start of the trace.
class EventPrinter {
 public:
  EventPrinter(cli::Output& out, DumpFormat format, const formats::TraceFile& file);
  void header();
  void print(const formats::Event& event);
  void print(const formats::TraceMark& mark);

 private:
  void print_text(const formats::Event& event);
  void print_csv(const formats::Event& event);
  void print_map(const formats::Event& event);  // in any format; dump_map.cc
  void print_jsonl(const formats::Event& event);

  cli::Output& out_;
  DumpFormat format_;
  const formats::TraceFile& file_;
};

// `lane` is nullopt for the prologue: the blocks from before the recording.
class OpPrinter {
 public:
  OpPrinter(cli::Output& out, DumpFormat format) : out_(out), format_(format) {}
  void header();
  void print(std::optional<std::uint32_t> lane, const LaneOp& op);

 private:
  void print_text(std::optional<std::uint32_t> lane, const LaneOp& op);
  void print_csv(std::optional<std::uint32_t> lane, const LaneOp& op);
  void print_map(std::optional<std::uint32_t> lane, const LaneOp& op);
  void print_jsonl(std::optional<std::uint32_t> lane, const LaneOp& op);

  cli::Output& out_;
  DumpFormat format_;
};

}  // namespace alloctape::analysis

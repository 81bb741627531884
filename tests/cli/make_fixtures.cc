// Writes the two small files that the tests of the command line look at: sample.atrace and sample.awl
// in the directory given. Both hold a bit of everything; cli_test.py knows every figure of them.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "formats/trace_writer.h"
#include "formats/workload_writer.h"

namespace {

using namespace alloctape;
using wire::Op;

void require(const formats::Status& status) {
  if (status) return;
  std::fprintf(stderr, "%s\n", status.error().to_string().c_str());
  std::exit(1);
}

template <typename T>
T require(formats::Result<T> result) {
  if (result) return std::move(result).value();
  std::fprintf(stderr, "%s\n", result.error().to_string().c_str());
  std::exit(1);
}

formats::Event event(std::uint32_t thread, std::uint64_t ns, Op op, std::uint64_t pointer = 0,
                     std::uint64_t size = 0) {
  formats::Event e;
  e.thread = formats::ThreadIndex{thread};
  e.stamp = e.release_stamp = ns;
  e.op = op;
  e.pointer = pointer;
  e.size = size;
  return e;
}

void write_trace(const std::string& path) {
  formats::TraceWriter::Options options;
  options.pid = 4194305;  // beyond Linux's largest pid: no process can be mistaken for it
  options.metadata.executable = "/usr/bin/sample";
  options.metadata.command_line = {"sample", "--with a space"};
  options.metadata.allocator_path = "/lib/libc.so.6";
  options.metadata.allocator_build_id = "0123abcd";
  options.metadata.tracer_version = "0.1.0";
  auto writer = require(formats::TraceWriter::create(path, options));

  auto start = [&](std::uint32_t thread, std::uint64_t ns) {
    formats::Event e = event(thread, ns, Op::kThreadStart);
    e.value = 100 + thread;
    return e;
  };
  std::vector<formats::Event> first, second;
  first.push_back(start(0, 500));
  first.push_back(event(0, 1000, Op::kMalloc, 0x10000, 64));
  first.push_back(event(0, 2000, Op::kCalloc, 0x10040, 128));
  formats::Event resize = event(0, 3100, Op::kRealloc, 0x10100, 200);
  resize.release_stamp = 3000;
  resize.old_pointer = 0x10000;
  resize.path = wire::kPathMoved;
  first.push_back(resize);
  first.push_back(event(0, 3500, Op::kFree));
  formats::Event usable = event(0, 3600, Op::kMallocUsableSize, 0x10100);
  usable.value = 208;
  first.push_back(usable);
  first.push_back(event(0, 4000, Op::kNew, 0x10200, 32));
  formats::Event failed = event(0, 6500, Op::kMalloc, 0, std::uint64_t{1} << 60);
  failed.path = wire::kPathFailed;
  first.push_back(failed);
  // A temporary block.
  first.push_back(event(0, 8500, Op::kMalloc, 0x10200, 16));
  first.push_back(event(0, 8600, Op::kFree, 0x10200));

  second.push_back(start(1, 4500));
  second.push_back(event(1, 5000, Op::kDelete, 0x10200));
  formats::Event aligned = event(1, 6000, Op::kPosixMemalign, 0x20000, 5000);
  aligned.alignment = 4096;
  aligned.path = wire::kPathMapped;
  second.push_back(aligned);
  second.push_back(event(1, 7000, Op::kFree, 0x10040));
  second.push_back(event(1, 8000, Op::kThreadEnd));

  for (const auto& e : first) require(writer.append(formats::StreamIndex{0}, e));
  for (const auto& e : second) require(writer.append(formats::StreamIndex{1}, e));
  require(writer.add_rss({{2000, 1 << 20, 8 << 20}, {6000, 3 << 20, 9 << 20}}));
  require(writer.finish());
}

void write_workload(const std::string& path) {
  auto writer = require(formats::WorkloadWriter::create(path));
  const std::uint32_t main_lane = writer.add_lane(), other_lane = writer.add_lane();
  require(writer.append_prologue(3, 40));
  auto op = [](Op kind, std::uint64_t slot, std::uint64_t size = 0) {
    formats::Op o;
    o.op = kind;
    o.slot = slot;
    o.size = size;
    return o;
  };
  require(writer.append(main_lane, op(Op::kMalloc, 1, 64)));
  const std::uint64_t handed_over = require(writer.append(main_lane, op(Op::kNew, 2, 32)));
  writer.publish(main_lane, handed_over);
  require(writer.append_spawn(main_lane, other_lane));
  require(writer.append_time(main_lane, 150'000));
  require(writer.append(main_lane, op(Op::kRealloc, 1, 200)));
  require(writer.append(main_lane, op(Op::kFree, 0)));
  require(writer.append(main_lane, op(Op::kFree, 3)));
  require(writer.append_exit(main_lane));

  require(writer.append_wait(other_lane, main_lane, handed_over));
  require(writer.append(other_lane, op(Op::kDelete, 2)));
  formats::Op aligned = op(Op::kPosixMemalign, 2, 5000);
  aligned.alignment = 4096;
  require(writer.append(other_lane, aligned));
  require(writer.append_exit(other_lane));

  formats::WorkloadWriter::Totals totals;
  totals.slots = 3;
  totals.peak_live_bytes = 5200;
  totals.peak_live_blocks = 2;
  totals.end_live_bytes = 5200;
  totals.end_live_blocks = 2;
  totals.recorded_ns = 1'000'000;
  totals.provenance_json = R"({"trace":"sample.atrace","executable":"/usr/bin/sample"})";
  totals.threads = {{.thread = 0,
                     .lane = main_lane,
                     .first_word = 0,
                     .end_word = writer.position(main_lane),
                     .ops = 5},
                    {.thread = 1,
                     .lane = other_lane,
                     .first_word = 0,
                     .end_word = writer.position(other_lane),
                     .ops = 2}};
  require(writer.finish(totals));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_fixtures DIRECTORY\n");
    return 2;
  }
  write_trace(std::string(argv[1]) + "/sample.atrace");
  write_workload(std::string(argv[1]) + "/sample.awl");
}

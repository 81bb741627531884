// Writes the golden trace of the current format version, and the text that it must read as:
//   make_golden_trace OUTPUT.atrace OUTPUT.atrace.expected
// Run once for each version of the format; the files are kept for ever and never written again.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "formats/trace_file.h"
#include "formats/trace_writer.h"
#include "tests/golden/trace_text.h"

namespace {

using namespace alloctape;
using namespace alloctape::formats;

// A generator that is the same everywhere and for ever.
struct Random {
  std::uint64_t state = 0x9e3779b97f4a7c15;
  std::uint64_t operator()(std::uint64_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
  }
};

struct Scene {
  explicit Scene(TraceWriter& trace) : writer(trace) {}
  TraceWriter& writer;
  Random random;
  std::uint64_t clock = 10'000;
  std::uint64_t next_address = 0x555555560000;
  std::vector<std::uint64_t> live, reusable;

  std::uint64_t tick(std::uint64_t limit = 300) { return clock += 1 + random(limit); }

  void put(std::uint32_t stream, const Event& e) {
    const Status status = writer.append(StreamIndex{stream}, e);
    if (!status) throw std::runtime_error(status.error().to_string());
  }
  Event event(wire::Op op, std::uint32_t thread, std::uint64_t pointer = 0) {
    Event e;
    e.op = op;
    e.thread = ThreadIndex{thread};
    e.stamp = e.release_stamp = tick();
    e.pointer = pointer;
    return e;
  }
  std::uint64_t fresh() {
    if (!reusable.empty() && random(2)) return take(reusable);
    next_address += 16 * (1 + random(40));
    return next_address;
  }
  std::uint64_t take(std::vector<std::uint64_t>& from) {
    const std::size_t i = random(from.size());
    const std::uint64_t value = from[i];
    from.erase(from.begin() + static_cast<std::ptrdiff_t>(i));
    return value;
  }

  // Each API function once with everything it can carry.
  void every_op(std::uint32_t stream, std::uint32_t thread) {
    for (int number = 1; number < wire::kApiOpLimit; ++number) {
      const auto op = static_cast<wire::Op>(number);
      const auto& traits = wire::traits(op);
      Event e = event(op, thread);
      if (traits.takes_size) e.size = 1 + random(5000);
      if (traits.takes_alignment) e.alignment = std::uint64_t{16} << random(8);
      switch (traits.op_class) {
        case wire::OpClass::kAcquire:
          live.push_back(e.pointer = fresh());
          break;
        case wire::OpClass::kRelease:
          if (live.empty()) live.push_back(0);
          e.pointer = take(live);
          if (e.pointer != 0) reusable.push_back(e.pointer);
          break;
        case wire::OpClass::kQuery:
          e.pointer = live.back();
          e.value = 24 + random(5000);
          break;
        case wire::OpClass::kResize:
          e.old_pointer = take(live);
          live.push_back(e.pointer = fresh());
          e.path = wire::kPathMoved;
          e.stamp = tick();
          reusable.push_back(e.old_pointer);
          break;
        default:
          continue;
      }
      put(stream, e);
    }
  }

  // Everyday churn: mostly one-word events.
  void churn(std::uint32_t stream, std::uint32_t thread, int calls) {
    for (int i = 0; i < calls; ++i) {
      const std::uint64_t what = random(10);
      if (what < 4 || live.size() < 3) {
        Event e = event(what % 2 ? wire::Op::kNew : wire::Op::kMalloc, thread, fresh());
        e.size = random(2000);
        live.push_back(e.pointer);
        put(stream, e);
      } else if (what < 7) {
        const Event e = event(what % 2 ? wire::Op::kDelete : wire::Op::kFree, thread, take(live));
        reusable.push_back(e.pointer);
        put(stream, e);
      } else if (what == 7) {
        Event e = event(wire::Op::kRealloc, thread);
        e.old_pointer = e.pointer = live[random(live.size())];
        e.size = random(3000);
        put(stream, e);
      } else if (what == 8) {
        Event e = event(wire::Op::kRealloc, thread);
        e.old_pointer = take(live);
        live.push_back(e.pointer = fresh());
        e.path = wire::kPathMoved;
        e.size = random(3000);
        e.stamp = tick();
        reusable.push_back(e.old_pointer);
        put(stream, e);
      } else {
        put(stream, event(random(2) ? wire::Op::kFree : wire::Op::kMallocUsableSize, thread));
      }
    }
  }

  // What only wide records can tell.
  void oddities(std::uint32_t stream, std::uint32_t thread) {
    Event e = event(wire::Op::kMalloc, thread);
    e.size = ~std::uint64_t{0} >> 1;
    e.path = wire::kPathFailed;
    put(stream, e);
    e = event(wire::Op::kCalloc, thread);
    e.count = std::uint64_t{1} << 40;
    e.value = std::uint64_t{1} << 30;
    e.size = ~std::uint64_t{0};
    e.path = wire::kPathFailed;
    put(stream, e);
    e = event(wire::Op::kRealloc, thread);  // failed: the block stays
    e.old_pointer = live.front();
    e.size = std::uint64_t{1} << 60;
    e.path = wire::kPathFailed;
    e.stamp = tick();
    put(stream, e);
    e = event(wire::Op::kRealloc, thread);  // realloc(p, 0) that freed
    e.old_pointer = take(live);
    e.stamp = tick();
    put(stream, e);
    e = event(wire::Op::kRealloc, thread, fresh());  // realloc(NULL, n)
    e.size = 77;
    live.push_back(e.pointer);
    put(stream, e);
    e = event(wire::Op::kMalloc, thread, 0x7f0012345010);  // a mapping of its own
    e.size = 1 << 20;
    e.path = wire::kPathMapped;
    put(stream, e);
    e = event(wire::Op::kMalloc, thread, 0x7f0040000020);  // another arena, and its window
    e.size = 100;
    e.path = wire::kPathOtherArena | wire::kPathGrew;
    put(stream, e);
    e = event(wire::Op::kMalloc, thread, 0x7f0040000120);
    e.size = 100;
    e.path = wire::kPathOtherArena;
    put(stream, e);
    e = event(wire::Op::kCalloc, thread, 0x7e0000000040);
    e.size = 12;
    e.path = wire::kPathBootstrap;
    put(stream, e);
    e = event(wire::Op::kFree, thread, 0x7f0012345010);
    e.path = wire::kPathMapped;
    put(stream, e);
    put(stream, event(wire::Op::kFree, thread, 0x666600000010));  // never acquired in this trace
    for (const std::uint64_t size : {32767u, 32768u, 65536u, 65537u, 557040u, 557056u}) {
      e = event(wire::Op::kMalloc, thread, fresh());  // around the limits of the size field
      e.size = size;
      live.push_back(e.pointer);
      put(stream, e);
    }
    clock += 1 << 20;  // more than any delta
    put(stream, event(wire::Op::kFork, thread));
    put(stream, event(wire::Op::kMark, thread));
  }

  void start(std::uint32_t stream, std::uint32_t thread) {
    Event e = event(wire::Op::kThreadStart, thread);
    e.value = 5000 + thread;
    put(stream, e);
  }
  void end(std::uint32_t stream, std::uint32_t thread) {
    put(stream, event(wire::Op::kThreadEnd, thread));
  }
  void late(std::uint32_t stream, std::uint32_t thread) {
    Event e = event(wire::Op::kFree, thread, take(live));
    e.path = wire::kPathLate;
    reusable.push_back(e.pointer);
    put(stream, e);
  }
};

void append_block(std::string& file, wire::BlockHeader header,
                  const std::vector<std::uint64_t>& words) {
  header.magic = wire::kBlockMagic;
  header.payload_bytes = words.size() * 8;
  const std::size_t at = (file.size() + 63) / 64 * 64;
  file.resize((at + sizeof header + header.payload_bytes + 63) / 64 * 64);
  std::memcpy(file.data() + at, &header, sizeof header);
  std::memcpy(file.data() + at + sizeof header, words.data(), words.size() * 8);
}

// What TraceWriter never writes, but the tracer, a crash or a later version may leave.
void add_traces_of_life(const std::string& path) {
  auto opened = TraceFile::open(path);
  if (!opened) throw std::runtime_error(opened.error().to_string());
  const std::size_t last = opened->streams().size() - 1;
  const BlockRef tail = opened->streams()[last].back();
  std::ifstream in(path, std::ios::binary);
  std::string file{std::istreambuf_iterator<char>(in), {}};

  file.resize(file.size() + 1024);  // a hole
  wire::BlockHeader header{};
  header.type = static_cast<wire::BlockType>(900);  // of a later version
  append_block(file, header, {~0ull, 1, 2, 3});
  header.type = wire::BlockType::kStaging;  // an extent given up for a larger one
  header.staging_state = wire::StagingState::kFree;
  header.dropped_events = 2;
  append_block(file, header, std::vector<std::uint64_t>(8, ~0ull));
  header = {};
  header.type = wire::BlockType::kEvents;  // half a copy of the last stream's staged tail
  header.stream = static_cast<std::uint32_t>(last);
  header.sequence = tail.sequence;
  header.first_stamp = tail.first_stamp;
  header.thread = tail.thread;
  std::vector<std::uint64_t> half(tail.words);
  std::memcpy(half.data(), tail.data, tail.words / 2 * 8);
  append_block(file, header, half);
  header = {};  // a stream of its own, with an opcode and a field of a later version
  header.type = wire::BlockType::kEvents;
  header.stream = static_cast<std::uint32_t>(last) + 1;
  header.first_stamp = 20'000;
  append_block(file, header,
               {wire::wide_word(static_cast<wire::Op>(110), 3, 0, wire::kFieldPointer, 5),
                0x7d0000000040, 0xdead,
                wire::wide_word(wire::Op::kMalloc, 4, 0,
                                wire::kFieldPointer | wire::kFieldSize | 1 << 13, 5),
                0x7d0000000080, 48, 0xbeef,
                wire::compact_word(wire::Kind::kFree, 9, 0, wire::window_slot(0x7d0000000080),
                                   0x7d0000000080)});
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(file.data(), static_cast<std::streamsize>(file.size()));
}

void make(const std::string& path, const std::string& expected) {
  TraceWriter::Options options;
  options.pid = 1234;
  options.parent_pid = 1200;
  options.clock_kind = wire::ClockKind::kTsc;
  options.clock_shift = 3;
  options.ticks_per_second = 2'400'000'000;
  options.features = wire::kFeatureSparseStamps;
  options.block_words = 96;
  options.stage_tails = true;
  TraceMetadata& m = options.metadata;
  m.executable = "/usr/bin/golden";
  m.command_line = {"golden", "--words", "", "two words"};
  m.working_directory = "/srv/work";
  m.preload = "/usr/lib/libother.so";
  m.allocator_path = "/usr/lib/x86_64-linux-gnu/libc.so.6";
  m.allocator_build_id = "58254ca972028402bc40624f81388d85dae95f70";
  m.tracer_version = "0.1.0";
  m.options = "strict=0";
  m.host_kernel = "6.1.0-18-amd64";
  auto writer = TraceWriter::create(path, options);
  if (!writer) throw std::runtime_error(writer.error().to_string());

  Scene scene(*writer);
  scene.start(0, 0);
  scene.every_op(0, 0);
  scene.churn(0, 0, 80);
  scene.start(1, 1);
  for (int round = 0; round < 6; ++round) {
    scene.churn(0, 0, 15);
    scene.churn(1, 1, 15);
  }
  scene.oddities(0, 0);
  scene.end(1, 1);
  scene.start(1, 2);  // the stream is handed on
  scene.every_op(1, 2);
  scene.churn(1, 2, 20);
  scene.late(2, 1);  // a destructor of thread 1
  scene.late(2, 0);  // a signal handler of thread 0
  scene.end(1, 2);
  scene.late(2, 2);
  scene.end(0, 0);
  const Status rss = writer->add_rss({{240'000, 1 << 20, 1 << 24}, {80'000, 1 << 19, 1 << 23}});
  const Status finished = writer->finish();
  if (!rss || !finished) throw std::runtime_error("cannot finish " + path);
  add_traces_of_life(path);

  auto file = TraceFile::open(path);
  if (!file) throw std::runtime_error(file.error().to_string());
  std::ofstream(expected, std::ios::trunc) << trace_text(*file);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: make_golden_trace OUTPUT.atrace OUTPUT.atrace.expected\n");
    return 2;
  }
  try {
    make(argv[1], argv[2]);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "make_golden_trace: %s\n", e.what());
    return 1;
  }
  return 0;
}

// How small and how fast packing makes a trace's events: packs and unpacks all blocks of each
// TRACE, ROUNDS times, on one core and in memory, and tells the best round. A line each,
// "name=value", times in ns of the thread's own CPU time per event; with --columns also where the
// bytes are.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "formats/block_packer.h"
#include "formats/block_unpacker.h"
#include "formats/trace_file.h"
#include "formats/trace_packer.h"

namespace {

using namespace alloctape;
using formats::RawBlock;

double cpu_ns() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

// The events of a trace as plain blocks, in the groups in which they would be packed.
struct Blocks {
  std::vector<formats::UnpackedBlock> unpacked;  // what was packed already
  std::vector<std::vector<RawBlock>> groups;

  void add(std::uint64_t most_words, const RawBlock& block, bool goes_on) {
    std::uint64_t words = block.words;
    if (!groups.empty()) {
      for (const RawBlock& b : groups.back()) words += b.words;
    }
    if (!goes_on || words > most_words || groups.back().size() == formats::kDefaultPackedParts) {
      groups.emplace_back();
    }
    groups.back().push_back(block);
  }
  explicit Blocks(const formats::TraceFile& trace) {
    const std::uint64_t most_words = formats::packed_block_words(trace.streams().size());
    for (const auto& stream : trace.streams()) {
      bool goes_on = false;
      for (const formats::BlockRef& ref : stream) {
        if (!ref.packed()) {
          add(most_words, {ref.sequence, ref.first_stamp, ref.thread, ref.words, ref.data},
              goes_on);
          goes_on = true;
          continue;
        }
        formats::UnpackedBlock& u = unpacked.emplace_back();
        if (!trace.unpack(ref, u)) std::exit(1);
        const std::uint64_t* data = u.words.data();
        for (std::size_t i = 0; i < u.parts.size(); ++i) {
          add(most_words,
              {ref.sequence + i, u.parts[i].first_stamp, u.parts[i].thread, u.parts[i].words, data},
              goes_on);
          goes_on = true;
          data += u.parts[i].words;
        }
      }
    }
  }
};

void measure(const std::string& path, int level, int rounds, bool columns) {
  const auto opened = formats::TraceFile::open(path);
  if (!opened) {
    std::fprintf(stderr, "%s\n", opened.error().to_string().c_str());
    std::exit(1);
  }
  const Blocks blocks(opened.value());
  formats::BlockPacker packer(level);
  formats::BlockUnpacker unpacker;
  double best_pack = 1e300, best_unpack = 1e300, events = 0, bytes = 0, raw = 0;
  std::vector<double> stored(wire::kColumns);
  for (int round = 0; round < rounds; ++round) {
    double pack = 0, unpack = 0;
    events = bytes = raw = 0;
    std::fill(stored.begin(), stored.end(), 0);
    std::vector<std::uint64_t> words;
    for (const auto& group : blocks.groups) {
      const double begin = cpu_ns();
      auto payload = packer.pack(group);
      if (!payload) std::exit(1);
      const double middle = cpu_ns();
      auto head = formats::read_packed_head(*payload, static_cast<std::uint32_t>(group.size()));
      if (!head || !unpacker.unpack(*payload, *head, words)) std::exit(1);
      unpack += cpu_ns() - middle;
      pack += middle - begin;
      events += static_cast<double>(packer.survey().events);
      bytes += static_cast<double>(payload->size() + sizeof(wire::BlockHeader));
      std::size_t at = 0;
      for (const RawBlock& b : group) {
        raw += sizeof(wire::BlockHeader) + 8.0 * b.words;
        if (std::memcmp(words.data() + at, b.data, b.words * 8ull) != 0) {
          std::fprintf(stderr, "%s: what was unpacked is not what was packed\n", path.c_str());
          std::exit(1);
        }
        at += b.words;
      }
      for (unsigned c = 0; c < wire::kColumns; ++c) stored[c] += head->columns[c].stored_bytes;
    }
    best_pack = std::min(best_pack, pack);
    best_unpack = std::min(best_unpack, unpack);
  }
  if (events == 0) events = 1;
  std::printf(
      "trace=%s level=%d events=%.0f raw_bytes_per_event=%.3f packed_bytes_per_event=%.3f "
      "pack_ns=%.2f unpack_ns=%.2f\n",
      path.c_str(), level, events, raw / events, bytes / events, best_pack / events,
      best_unpack / events);
  static const char* const kNames[wire::kColumns] = {
      "op",           "size_low",      "size_high",  "acquire",    "release",
      "age_low",      "age_high",      "zeros",      "time",       "long_time",
      "acquire_lo",   "acquire_hi",    "release_lo", "release_hi", "size_kept",
      "null_code",    "value_low",     "value_high", "usable_low", "usable_high",
      "duration_low", "duration_high", "wide_head",  "field",      "raw"};
  for (unsigned c = 0; columns && c < wire::kColumns; ++c) {
    if (stored[c] > 0) std::printf("  %-14s %.4f\n", kNames[c], stored[c] / events);
  }
}

}  // namespace

int main(int argc, char** argv) {
  int level = alloctape::formats::kDefaultPackLevel, rounds = 5, at = 1;
  bool columns = false;
  for (; at < argc && std::strncmp(argv[at], "--", 2) == 0; ++at) {
    const std::string option = argv[at];
    if (option == "--columns") {
      columns = true;
    } else if (option == "--level" && at + 1 < argc) {
      level = std::atoi(argv[++at]);
    } else if (option == "--rounds" && at + 1 < argc) {
      rounds = std::max(1, std::atoi(argv[++at]));
    } else {
      at = argc;
    }
  }
  if (at >= argc) {
    std::fprintf(stderr, "usage: packing [--level N] [--rounds N] [--columns] TRACE...\n");
    return 2;
  }
  for (; at < argc; ++at) measure(argv[at], level, rounds, columns);
  return 0;
}

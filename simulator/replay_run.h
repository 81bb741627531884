// One replay: a fresh process under a candidate, watched from outside, its results gathered
// whatever becomes of it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "formats/result_json.h"
#include "formats/workload_file.h"
#include "simulator/candidate.h"
#include "simulator/replay_shared.h"

namespace alloctape::simulator {

struct RunSettings {
  std::string replayer;  // path of alloctape-replay
  bool timed = true;
  std::uint32_t sample_every = 1;  // calls for one that is timed
  Touch touch = Touch::kPage;
  std::uint32_t touch_percent = 100;
  bool touch_calloc = false, touch_reads = false;
  bool verify = false;                                           // touches every block in full
  std::uint64_t settle_ns = 0;                                   // pause after everything was freed
  std::uint64_t purge_calls = 0, purge_bytes = 0, purge_ns = 0;  // 0: not that way
  std::vector<MalloptSetting> mallopt;                           // a candidate's own come after
  enum class HugePages { kSystem, kOff, kOn } huge_pages = HugePages::kSystem;
  std::vector<std::uint16_t> cpus;            // empty: all
  bool syscalls = false;                      // count system calls: a pass of its own, untimed
  bool usable = false;                        // keep books of usable bytes
  std::uint64_t timeout_ns = 60'000'000'000;  // without any op finishing
  std::vector<Setting> environment;           // for every candidate; its own settings win
  bool maps = true;                           // replay the program's own mappings
};

// REQUIRES: the workload has been validated. `progress` is called some times a second with words
// done and words in all; it may be empty. Never throws for what the replayer or the candidate does;
// throws std::system_error when the driver itself cannot go on (no memory, no processes).
formats::RunResult run_replay(const formats::WorkloadFile& workload, const Candidate& candidate,
                              const RunSettings& settings,
                              const std::function<void(std::uint64_t, std::uint64_t)>& progress);

}  // namespace alloctape::simulator

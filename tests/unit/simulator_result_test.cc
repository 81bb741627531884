#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "formats/result_json.h"

namespace alloctape::formats {
namespace {

RunResult full_result() {
  RunResult r;
  r.candidate = {"jemalloc A=b", "/lib/x.so", "5.3", "abcd", {{"A", "b"}}};
  r.workload = "w.awl";
  r.round = 3;
  r.status = RunStatus::kCrashed;
  RunFailure f;
  f.message = "SIGSEGV in free";
  f.signal = 11;
  f.lane = 2;
  f.op_index = 1'000'000;
  f.op = "free";
  f.slot = 7;
  f.size_bytes = 100;
  f.backtrace = {"libx.so+0x10 free+0x3", "alloctape-replay+0x20"};
  r.failure = f;
  r.verification = Verification{
      3, 100, 10'000, {{"overlap", "malloc, op 3", "malloc", 3, 0, std::nullopt, 9, 64, 4096}}};
  r.ops = {{"malloc", 7}, {"operator new", 9}};
  r.total_ops = 16;
  r.wall_ns = 123;
  r.peak_rss_bytes = 1 << 20;
  r.latency["malloc"] = {7, 1.5, 1, 2, 3, 4, 5, 6};
  r.latency_by_size["malloc"] = {{17, 32, r.latency["malloc"], {1.5, 2.25}, {3, 4}},
                                 {67108865, std::nullopt, r.latency["malloc"], {9}, {7}}};
  r.slowest_calls = {{1e6, "malloc", 77, 1, 5, 64, 9, 12.5, 3, 0},
                     {1e5, "free", 78, 0, std::nullopt, 64, 9, 12.5, std::nullopt, std::nullopt}};
  r.memory_points = {{"growing", 5, 100, 110, 4096, 0, 0, 8192},
                     {"end", 9, 50, std::nullopt, 4096, 4096, 0, 8192}};
  r.parts_at_peak = MemoryParts{4096, 100, 10, 0, 2048, 1938};
  r.parts_at_end = MemoryParts{4096, 5000, std::nullopt, 0, 2048, -2952};
  r.freed_rss_bytes = 1000;
  r.settle_ns = 5;
  r.view_at_end = AllocatorView{"mallinfo2", {{"arena", 1}, {"hblkhd", 2}}};
  r.syscalls = SyscallCounts{true, 5000, {{"mmap", {3, 1, 300, 200, 8192}}}, {}};
  r.syscalls->by_lane["0"]["mmap"] = {3, 1, 300, 200, 8192};
  r.purges = 3;
  r.purge_by = "malloc_trim";
  r.timing = "sample";
  r.timing_every = 64;
  r.touch_calloc = true;
  r.latency_error = 0.0156;
  r.faulted_calls = 5;
  r.fidelity.live_peak_ratio = 0.5;
  r.by_progress = {{0, 1}, {0, 16}, {4096, 8192}, {1, 2}, {3, 4}};
  r.by_time = {{5}, {}, {6}, {7}, {}};
  return r;
}

TEST(ResultJson, EveryFieldSurvivesARoundTrip) {
  const nlohmann::json once = to_json(full_result());
  const auto back = run_result_from_json(once);
  ASSERT_TRUE(back.ok()) << back.error().to_string();
  EXPECT_EQ(to_json(back.value()), once);
}

TEST(ResultJson, WhatIsUnknownIsNullAndNotZero) {
  const nlohmann::json j = to_json(full_result());
  for (const char* key : {"user_ns", "end_rss_bytes", "major_faults", "peak_live_bytes"})
    EXPECT_TRUE(j.at(key).is_null()) << key;
  EXPECT_TRUE(j.at("failure").at("thread").is_null());
}

TEST(ResultJson, HasTheKeysThatAreFixed) {
  const nlohmann::json j = to_json(full_result());
  EXPECT_EQ(j.at("schema"), "alloctape.replay/1");
  for (const char* key :
       {"status", "ops", "wall_ns", "user_ns", "system_ns", "peak_rss_bytes", "end_rss_bytes",
        "peak_live_bytes", "latency", "candidate", "workload", "round"})
    EXPECT_TRUE(j.contains(key)) << key;
  for (const char* key : {"count", "mean_ns", "p50_ns", "p99_ns", "max_ns"})
    EXPECT_TRUE(j.at("latency").at("malloc").contains(key)) << key;
}

TEST(ResultJson, AComparisonSurvivesARoundTrip) {
  Comparison c;
  c.runs = {full_result(), full_result()};
  c.runs[1].round = 4;
  c.environment.kernel = "Linux";
  c.environment.cores = 2;
  c.seed = 1;
  c.rounds = 2;
  c.candidates = {"jemalloc A=b"};
  c.workloads = {"w.awl"};
  const nlohmann::json once = to_json(c);
  const auto back = comparison_from_json(once);
  ASSERT_TRUE(back.ok()) << back.error().to_string();
  EXPECT_EQ(to_json(back.value()), once);
}

TEST(ResultJson, AReplayResultReadsAsAComparisonOfOneRun) {
  const auto c = comparison_from_json(to_json(full_result()));
  ASSERT_TRUE(c.ok());
  ASSERT_EQ(c.value().runs.size(), 1u);
  EXPECT_EQ(c.value().candidates, std::vector<std::string>{"jemalloc A=b"});
}

TEST(ResultJson, HostileJsonIsAnErrorAndNotACrash) {
  using J = nlohmann::json;
  for (const char* text :
       {"null", "[]", "1", "{}", R"({"schema":1})", R"({"schema":"alloctape.compare/9"})",
        R"({"schema":"alloctape.compare/1"})", R"({"schema":"alloctape.compare/1","runs":[1]})",
        R"({"schema":"alloctape.replay/1","candidate":{},"status":"ok"})",
        R"({"schema":"alloctape.replay/1","candidate":"a","status":"ok","ops":{"malloc":"x"}})"})
    EXPECT_FALSE(comparison_from_json(J::parse(text)).ok()) << text;
}

}  // namespace
}  // namespace alloctape::formats

// The options that `replay` and `compare` have in common.
#pragma once

#include <boost/program_options.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "formats/workload_file.h"
#include "simulator/replay_run.h"

namespace alloctape::simulator {

void add_run_options(boost::program_options::options_description& options);
// Usage errors for values that make no sense.
RunSettings run_settings(const boost::program_options::variables_map& values);

// Opened and validated; throws UserError.
formats::WorkloadFile open_workload(const std::string& path);

// A candidate, or a UserError that says what is known.
Candidate candidate_or_fail(const std::string& text);

// What the harness itself takes of anonymous memory in such a run, measured with an allocator that
// does nothing.
inline constexpr const char* kNoop = "noop";
std::optional<std::uint64_t> harness_memory(const formats::WorkloadFile& workload,
                                            RunSettings settings);

// Makes the further pass that counts system calls, and adds them to the result of the timed one.
void add_syscalls(const formats::WorkloadFile& workload, const Candidate& candidate,
                  RunSettings settings, formats::RunResult& run);

// Writes JSON to a file, or to standard output for "-".
void write_json(const std::string& path, const std::string& text);

}  // namespace alloctape::simulator

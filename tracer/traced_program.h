// The program under `record`: started with the tracer preloaded, its signals and its end.
//
// Thread safety: one at a time, and only one thread; it owns the process's signal mask.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace alloctape::tracer {

struct TraceEnvironment {
  std::string preload_library;
  std::string output_pattern;  // absolute
  std::string session_path;
  std::string options;  // comma-separated; may be empty
};

class TracedProgram {
 public:
  // Starts the program. Throws cli::UserError (exit code 127: not found, 126: found but cannot be
  // run), as a shell would tell.
  TracedProgram(const std::vector<std::string>& arguments, const TraceEnvironment& environment);
  ~TracedProgram();
  TracedProgram(const TracedProgram&) = delete;
  TracedProgram& operator=(const TracedProgram&) = delete;

  // Sleeps until a child ends, a signal arrives (which is passed on) or the time is up.
  void step(std::uint64_t timeout_ns);
  bool ended() const { return ended_; }
  // No process of the recording is left: neither the program nor what it left behind.
  bool all_gone() const { return all_gone_; }
  // The program has ended and somebody wants `record` to end too.
  bool told_to_leave() const { return told_to_leave_; }
  pid_t pid() const { return pid_; }
  // As waitpid gave it; of those children that were ours to wait for.
  const std::map<pid_t, int>& wait_statuses() const { return statuses_; }
  // What a shell would say: the exit status, or 128 + signal. REQUIRES: ended().
  int exit_status() const;

 private:
  void reap();
  void pass_on(const siginfo_t& info);

  pid_t pid_ = -1;
  bool ended_ = false, all_gone_ = false, told_to_leave_ = false;
  std::map<pid_t, int> statuses_;
  sigset_t watched_{}, original_mask_{};
};

}  // namespace alloctape::tracer

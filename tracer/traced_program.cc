#include "tracer/traced_program.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "cli/cli.h"
#include "formats/wire/session.h"

namespace alloctape::tracer {
namespace {

constexpr int kNotFound = 127, kCannotRun = 126;

// Sent to `record` by hand or by a supervisor, they are meant for the program.
constexpr int kPassedOn[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGCONT, SIGTSTP};

// Ours first: it must stand before any allocator that the user preloads, so that this allocator's
// functions are the ones behind RTLD_NEXT. The loader takes spaces and colons as separators.
std::string preload_list(const std::string& ours) {
  std::string list = ours;
  const char* theirs = std::getenv("LD_PRELOAD");
  std::string text = theirs ? theirs : "";
  for (char& c : text) {
    if (c == ':') c = ' ';
  }
  std::istringstream entries(text);
  for (std::string entry; entries >> entry;) {
    if (entry != ours) list += ":" + entry;
  }
  return list;
}

void set_environment(const TraceEnvironment& environment) {
  setenv("LD_PRELOAD", preload_list(environment.preload_library).c_str(), 1);
  setenv(wire::kEnvOutput, environment.output_pattern.c_str(), 1);
  setenv(wire::kEnvSession, environment.session_path.c_str(), 1);
  if (environment.options.empty()) {
    unsetenv(wire::kEnvOptions);
  } else {
    setenv(wire::kEnvOptions, environment.options.c_str(), 1);
  }
}

}  // namespace

TracedProgram::TracedProgram(const std::vector<std::string>& arguments,
                             const TraceEnvironment& environment) {
  sigemptyset(&watched_);
  sigaddset(&watched_, SIGCHLD);
  for (const int signal : kPassedOn) sigaddset(&watched_, signal);
  // Blocked, they wait for sigtimedwait whatever their disposition; none is lost before the loop
  // runs.
  sigprocmask(SIG_BLOCK, &watched_, &original_mask_);
  // With SIGCHLD ignored (inherited so) the kernel would keep no exit status for us.
  struct sigaction as_it_should {
  }, as_it_was{};
  as_it_should.sa_handler = SIG_DFL;
  sigaction(SIGCHLD, &as_it_should, &as_it_was);
  // Descendants whose parents end become our children: so their end can be noticed.
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);

  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) {
    cli::fail(fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  }
  std::vector<char*> argv;
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);

  pid_ = fork();
  if (pid_ < 0) cli::fail(fmt::format("cannot start a process: {}", std::strerror(errno)));
  if (pid_ == 0) {
    set_environment(environment);
    sigaction(SIGCHLD, &as_it_was, nullptr);
    sigprocmask(SIG_SETMASK, &original_mask_, nullptr);
    execvp(argv[0], argv.data());
    const int error = errno;
    [[maybe_unused]] const ssize_t written = write(report[1], &error, sizeof error);
    _exit(kNotFound);
  }
  // Limits on files, and a reader of standard error that leaves, must not end `record` before its
  // program: an error will do. Set here, not before the fork, since ignored signals are inherited.
  for (const int signal : {SIGXFSZ, SIGPIPE}) std::signal(signal, SIG_IGN);
  close(report[1]);
  int error = 0;
  ssize_t got;
  do {
    got = read(report[0], &error, sizeof error);  // closed by a successful exec: 0 bytes
  } while (got < 0 && errno == EINTR);
  close(report[0]);
  if (got == sizeof error) {
    waitpid(pid_, nullptr, 0);
    const bool missing = error == ENOENT;
    throw cli::UserError{fmt::format("cannot run {}: {}", arguments[0], std::strerror(error)),
                         missing ? "check the name, or give the program's path" : "",
                         missing ? kNotFound : kCannotRun};
  }
}

TracedProgram::~TracedProgram() { sigprocmask(SIG_SETMASK, &original_mask_, nullptr); }

void TracedProgram::step(std::uint64_t timeout_ns) {
  timespec timeout{static_cast<time_t>(timeout_ns / 1'000'000'000),
                   static_cast<long>(timeout_ns % 1'000'000'000)};
  siginfo_t info;
  const int signal = sigtimedwait(&watched_, &info, &timeout);
  if (signal == SIGCHLD) {
    reap();
  } else if (signal > 0) {
    pass_on(info);
  }
}

// One SIGCHLD may stand for many children.
void TracedProgram::reap() {
  for (;;) {
    int status = 0;
    const pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid < 0 && errno == ECHILD) all_gone_ = true;
    if (pid <= 0) return;
    statuses_[pid] = status;
    if (pid == pid_) ended_ = true;
  }
}

// What the terminal sends (the kernel, that is) has gone to the whole process group: the program
// has it already. What a process sent went to us alone.
void TracedProgram::pass_on(const siginfo_t& info) {
  const bool from_terminal = info.si_code == SI_KERNEL;
  const int signal = info.si_signo;
  if (!ended_ && !from_terminal) kill(pid_, signal);
  if (ended_ && (signal == SIGINT || signal == SIGQUIT || signal == SIGTERM || signal == SIGHUP)) {
    told_to_leave_ = true;
  }
  if (signal == SIGTSTP) raise(SIGSTOP);  // and so does the job that the shell sees
}

int TracedProgram::exit_status() const {
  const int status = statuses_.at(pid_);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace alloctape::tracer

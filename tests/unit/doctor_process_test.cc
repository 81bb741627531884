// What doctor finds in running processes.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <string>
#include <vector>

#include "tracer/process_diagnosis.h"

namespace alloctape::tracer {
namespace {

const Finding* find(const Diagnosis& diagnosis, const std::string& code) {
  const auto found = std::find_if(diagnosis.findings.begin(), diagnosis.findings.end(),
                                  [&](const Finding& finding) { return finding.code == code; });
  return found == diagnosis.findings.end() ? nullptr : &*found;
}

TEST(ProcessView, ShowsThisProcess) {
  const ProcessView view = view_process(getpid());
  ASSERT_EQ(view.access, ProcessView::Access::kFull);
  EXPECT_NE(view.executable.find("doctor_test"), std::string::npos);
  EXPECT_FALSE(view.command_line.empty());
  EXPECT_FALSE(view.other_root);
  EXPECT_FALSE(view.other_mounts);
  EXPECT_EQ(view.secure, std::optional<bool>(false));
  EXPECT_FALSE(view.mappings.empty());
  EXPECT_GT(anonymous_memory(view.mappings).total(), 0U);
}

TEST(ProcessView, FindsTheLoadersListInMemory) {
  const ProcessView view = view_process(getpid());
  ASSERT_GE(view.load_order.size(), 3U);
  EXPECT_EQ(view.load_order.front(), view.executable);
  const auto is_libc = [](const std::string& path) { return path.ends_with("/libc.so.6"); };
  EXPECT_EQ(std::count_if(view.load_order.begin(), view.load_order.end(), is_libc), 1);
}

TEST(ProcessView, TellsProcessesThatCannotBeLookedAt) {
  EXPECT_EQ(view_process(INT_MAX).access, ProcessView::Access::kNoSuchProcess);
  const pid_t child = fork();
  if (child == 0) _exit(0);
  siginfo_t ended;
  waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT);
  EXPECT_EQ(view_process(child).access, ProcessView::Access::kEnded);
  EXPECT_NE(find(diagnose_process(view_process(child), ""), "ended"), nullptr);
  waitpid(child, nullptr, 0);
}

TEST(ProcessView, SmapsAreReadLineByLine) {
  const auto mappings = parse_smaps(
      "55d0-55e0 rw-p 00000000 00:00 0                          [heap]\n"
      "Size:                 64 kB\nAnonymous:            12 kB\n"
      "7f00-7f10 r-xp 00001000 08:01 1234                       /usr/lib/with a space.so "
      "(deleted)\n"
      "Anonymous:             4 kB\n"
      "7f20-7f30 rw-p 00000000 00:00 0 \n"
      "Anonymous:           100 kB\nnonsense\n");
  ASSERT_EQ(mappings.size(), 3U);
  EXPECT_EQ(mappings[0].path, "[heap]");
  EXPECT_EQ(mappings[0].permissions, "rw-p");
  EXPECT_EQ(mappings[1].path, "/usr/lib/with a space.so (deleted)");
  EXPECT_EQ(mappings[2].start, 0x7f20U);
  const AnonymousMemory memory = anonymous_memory(mappings);
  EXPECT_EQ(memory.heap_bytes, 12U * 1024);
  EXPECT_EQ(memory.file_bytes, 4U * 1024);
  EXPECT_EQ(memory.mapped_bytes, 100U * 1024);
  EXPECT_TRUE(parse_smaps("").empty());
}

// A child that sleeps until it is killed, after `prepare`.
template <typename Prepare>
Diagnosis diagnose_child(Prepare prepare) {
  int ready[2];
  if (pipe(ready) != 0) std::abort();
  const pid_t child = fork();
  if (child == 0) {
    prepare();
    if (write(ready[1], "r", 1) != 1) _exit(1);
    for (;;) pause();
  }
  char byte;
  if (read(ready[0], &byte, 1) != 1) std::abort();
  close(ready[0]);
  close(ready[1]);
  Diagnosis diagnosis = diagnose_process(view_process(child), "");
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  return diagnosis;
}

TEST(ProcessDoctor, ARunningProcessNeedsANewStart) {
  const Diagnosis diagnosis = diagnose_child([] {});
  const Finding* finding = find(diagnosis, "already_running");
  ASSERT_NE(finding, nullptr);
  EXPECT_EQ(finding->severity, Severity::kNote);
  EXPECT_NE(finding->remedy.find("record --paused"), std::string::npos);
  EXPECT_NE(find(diagnosis, "memory"), nullptr);
  EXPECT_EQ(find(diagnosis, "no_new_privileges"), nullptr);
}

TEST(ProcessDoctor, RestrictionsAreTold) {
  const Diagnosis diagnosis = diagnose_child([] { prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); });
  EXPECT_NE(find(diagnosis, "no_new_privileges"), nullptr);
  if (geteuid() != 0) return;
  const Diagnosis confined = diagnose_child([] {
    if (chroot("/usr") != 0) _exit(1);
  });
  ASSERT_NE(find(confined, "other_root"), nullptr);
  EXPECT_EQ(find(confined, "other_root")->severity, Severity::kWarning);
}

}  // namespace
}  // namespace alloctape::tracer

// What doctor finds in programs, each special in one way.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/unit/temporary_folder.h"
#include "tracer/diagnosis.h"

namespace alloctape::tracer {
namespace {

namespace fs = std::filesystem;

std::string built(const std::string& name) {
  return std::string(DOCTOR_PROGRAMS "/doctor_") + name;
}

Diagnosis diagnose(const std::string& path) { return diagnose_program(path, "", {}); }

const Finding* find(const Diagnosis& diagnosis, const std::string& code) {
  const auto found = std::find_if(diagnosis.findings.begin(), diagnosis.findings.end(),
                                  [&](const Finding& finding) { return finding.code == code; });
  return found == diagnosis.findings.end() ? nullptr : &*found;
}

// Expects a finding of that severity, and no worse one.
void expect_worst(const std::string& path, Severity severity, const std::string& code) {
  const Diagnosis diagnosis = diagnose(path);
  const Finding* finding = find(diagnosis, code);
  ASSERT_NE(finding, nullptr) << path << " has no finding " << code;
  EXPECT_EQ(finding->severity, severity) << path << ": " << finding->text;
  EXPECT_EQ(diagnosis.worst(), severity) << path;
  EXPECT_FALSE(finding->text.empty());
  EXPECT_TRUE(severity != Severity::kCannot || !finding->remedy.empty()) << code;
}

TEST(Doctor, APlainProgramIsFine) {
  expect_worst(built("plain"), Severity::kOk, "allocator");
  expect_worst(built("stripped"), Severity::kOk, "dynamic");
}

TEST(Doctor, StaticProgramsCannotBeTraced) {
  expect_worst(built("static"), Severity::kCannot, "static");
  expect_worst(built("static_pie"), Severity::kCannot, "static");
}

TEST(Doctor, ALibraryIsNoProgram) {
  TemporaryFolder folder;
  fs::copy_file(built("mallocx_stub.so"), folder.file("library"));
  fs::permissions(folder.file("library"), fs::perms::owner_all);
  expect_worst(folder.file("library"), Severity::kCannot, "no_program");
}

TEST(Doctor, AProgramsOwnMallocStandsBeforeAnyPreload) {
  expect_worst(built("own_malloc"), Severity::kCannot, "own_allocator");
  EXPECT_EQ(probe_program(built("own_malloc")).verdict, Traceable::kOwnAllocator);
}

TEST(Doctor, HiddenAllocatorsAreMissed) {
  expect_worst(built("hidden_malloc"), Severity::kCannot, "hidden_allocator");
  expect_worst(built("stripped_jemalloc"), Severity::kCannot, "bundled_allocator");
  expect_worst(built("prefixed_jemalloc"), Severity::kWarning, "bundled_allocator");
  EXPECT_NE(find(diagnose(built("prefixed_jemalloc")), "bundled_allocator")->text.find("jemalloc"),
            std::string::npos);
}

TEST(Doctor, FunctionsBesideTheMallocApiAreMissed) {
  expect_worst(built("mallocx"), Severity::kWarning, "nonstandard_api");
  expect_worst(built("libc_malloc"), Severity::kWarning, "libc_internal_api");
}

TEST(Doctor, AWeakImportCountsOnlyWhereSomebodyProvidesIt) {
  EXPECT_EQ(find(diagnose(built("weak_mallocx")), "nonstandard_api"), nullptr);
  expect_worst(built("weak_mallocx_met"), Severity::kWarning, "nonstandard_api");
}

TEST(Doctor, ALibraryBoundToItselfKeepsItsCalls) {
  expect_worst(built("uses_symbolic"), Severity::kWarning, "symbolic");
  EXPECT_NE(find(diagnose(built("uses_symbolic")), "allocator")->subject.find("symbolic"),
            std::string::npos);
}

TEST(Doctor, GoIsRecognisedByItsNote) { expect_worst(built("go"), Severity::kWarning, "go"); }

TEST(Doctor, SetUserIdProgramsGainPrivileges) {
  TemporaryFolder folder;
  const std::string copy = folder.file("setuid");
  fs::copy_file(built("plain"), copy);
  struct statvfs mount;
  if (statvfs(copy.c_str(), &mount) != 0 || (mount.f_flag & ST_NOSUID) ||
      prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) {
    GTEST_SKIP() << "set-user-id means nothing here";
  }
  chmod(copy.c_str(), 04755);
  expect_worst(copy, Severity::kNote, "privileged_for_others");
  if (chown(copy.c_str(), 65534, 65534) != 0) GTEST_SKIP() << "only root can give files away";
  chmod(copy.c_str(), 04755);
  expect_worst(copy, Severity::kCannot, "privileged");
  chmod(copy.c_str(), 02755);
  expect_worst(copy, Severity::kCannot, "privileged");
  // A process that has renounced new privileges gains none.
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    _exit(gained_privileges(copy).empty() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(Doctor, ScriptsAreFollowedAndRead) {
  TemporaryFolder folder;
  const Diagnosis plain = diagnose(folder.write("plain", "#!/bin/sh\necho hello\n"));
  EXPECT_EQ(plain.worst(), Severity::kNote);
  EXPECT_NE(find(plain, "script"), nullptr);
  const std::string wrapper =
      folder.write("wrapper",
                   "#!/usr/bin/env sh\n# LD_PRELOAD is not touched here\nunset LD_PRELOAD\nexec "
                   "\"/bin/true\" \"$@\"\n");
  const Diagnosis touching = diagnose(wrapper);
  ASSERT_NE(find(touching, "script_environment"), nullptr);
  EXPECT_NE(find(touching, "script_environment")->text.find("line 3"), std::string::npos);
  ASSERT_NE(find(touching, "script_exec"), nullptr);
  EXPECT_NE(find(touching, "script_exec")->remedy.find("/bin/true"), std::string::npos);
  const Diagnosis nested = diagnose(folder.write("nested", "#!" + wrapper + "\n"));
  EXPECT_EQ(std::count_if(nested.findings.begin(), nested.findings.end(),
                          [](const Finding& finding) { return finding.code == "script"; }),
            2);
}

TEST(Doctor, SaysWhyAProgramCannotEvenStart) {
  TemporaryFolder folder;
  expect_worst("no-such-program-anywhere", Severity::kCannot, "not_found");
  EXPECT_NE(find(diagnose(folder.file("missing")), "not_found"), nullptr);
  EXPECT_NE(find(diagnose("/etc"), "not_executable"), nullptr);
  const std::string text = folder.write("text", "no program\n");
  EXPECT_NE(find(diagnose(text), "unknown_format"), nullptr);
  chmod(text.c_str(), 0644);
  EXPECT_NE(find(diagnose(text), "not_executable"), nullptr);
  const std::string script = folder.write("script", "#!/no/such/interpreter\n");
  EXPECT_NE(find(diagnose(script), "no_interpreter"), nullptr);
}

TEST(Doctor, MuslProgramsNeedAnotherLibrary) {
  TemporaryFolder folder;
  std::ofstream(folder.file("e.c")) << "int main(void) { return 0; }\n";
  const std::string command =
      "musl-gcc -o " + folder.file("musl") + " " + folder.file("e.c") + " >/dev/null 2>&1";
  if (std::system(command.c_str()) != 0) GTEST_SKIP() << "musl-gcc is not installed (musl-tools)";
  expect_worst(folder.file("musl"), Severity::kCannot, "other_libc");
}

TEST(Doctor, SanitizedProgramsCannotBeTraced) {
  TemporaryFolder folder;
  std::ofstream(folder.file("e.c")) << "int main(void) { return 0; }\n";
  for (const char* compiler : {"gcc", "clang"}) {
    const std::string command = std::string(compiler) + " -fsanitize=address -o " +
                                folder.file("asan") + " " + folder.file("e.c") + " >/dev/null 2>&1";
    if (std::system(command.c_str()) != 0) continue;
    const Diagnosis diagnosis = diagnose(folder.file("asan"));
    EXPECT_NE(find(diagnosis, "sanitizer"), nullptr) << compiler;
    EXPECT_EQ(diagnosis.worst(), Severity::kCannot) << compiler;
  }
}

TEST(Doctor, CommandsAreQuotedForTheShell) {
  EXPECT_EQ(shell_line({"a", "b c", "it's", ""}), "a 'b c' 'it'\\''s' ''");
}

}  // namespace
}  // namespace alloctape::tracer

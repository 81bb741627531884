#include "tracer/elf_probe.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "tracer/object_facts.h"

namespace alloctape::tracer {
namespace {

constexpr std::size_t kHeadBytes = 4096;  // far more than the kernel reads of a "#!" line
constexpr int kInterpreterDepth = 4;      // as many "#!" lines as the kernel follows

std::string read_head(const std::string& path) {
  std::string head(kHeadBytes, '\0');
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return {};
  const ssize_t got = pread(fd, head.data(), head.size(), 0);
  close(fd);
  head.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return head;
}

std::string user_name(uid_t id) {
  const passwd* entry = getpwuid(id);
  return entry ? entry->pw_name : fmt::format("{}", id);
}

std::string group_name(gid_t id) {
  const group* entry = getgrgid(id);
  return entry ? entry->gr_name : fmt::format("{}", id);
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  }
  return text;
}

// malloc, free and what else of the C side the executable brings; C++ operators are told apart.
std::string own_functions(const ObjectFacts& facts) {
  std::vector<std::string> names;
  for (const std::string& name : facts.exports) {
    if (!name.starts_with("_Z")) names.push_back(name);
  }
  return listed(names);
}

void judge_own_allocator(const ElfFile& file, ElfProbe& probe) {
  // A look at the exports is cheap; what gather_facts() does is not, for a browser.
  if (!exports_malloc(file)) return;
  const ObjectFacts facts = gather_facts(file);
  probe.verdict = Traceable::kOwnAllocator;
  probe.reason = fmt::format(
      "it defines {} itself{}, and a program's own symbols come before those of any preloaded "
      "library",
      own_functions(facts), facts.allocator.empty() ? "" : " (" + facts.allocator + ")");
  const bool uses_new = std::any_of(facts.imports.begin(), facts.imports.end(),
                                    [](const auto& name) { return name.starts_with("_Z"); });
  if (uses_new) probe.reason += "; of its calls only C++'s new and delete are seen";
  probe.remedy = "link the allocator as a shared library, or build without it for the recording";
}

}  // namespace

std::string find_program(const std::string& program) {
  const auto runnable = [](const std::string& path) {
    struct stat st;
    return stat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode) && access(path.c_str(), X_OK) == 0;
  };
  if (program.find('/') != std::string::npos) return runnable(program) ? program : std::string{};
  const char* path = std::getenv("PATH");
  std::istringstream folders(path ? path : "/bin:/usr/bin");
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string candidate = (folder.empty() ? "." : folder) + "/" + program;
    if (runnable(candidate)) return candidate;
  }
  return {};
}

// The kernel's rule: the loader is told to be secure when the new effective ids differ from the
// real ones, or when somebody who is not root gains capabilities. The bits count for nothing on a
// file system mounted nosuid and for a process that has renounced new privileges.
std::string gained_privileges(const std::string& path) {
  struct stat st;
  if (stat(path.c_str(), &st) != 0) return {};
  struct statvfs fs;
  const bool mounted_nosuid = statvfs(path.c_str(), &fs) == 0 && (fs.f_flag & ST_NOSUID) != 0;
  const bool renounced = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
  if (mounted_nosuid || renounced) return {};
  if ((st.st_mode & S_ISUID) && st.st_uid != getuid()) {
    return "set-user-id " + user_name(st.st_uid);
  }
  if ((st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP) && st.st_gid != getgid()) {
    return "set-group-id " + group_name(st.st_gid);
  }
  const bool has_capabilities = getxattr(path.c_str(), "security.capability", nullptr, 0) > 0;
  return getuid() != 0 && has_capabilities ? "given file capabilities" : "";
}

std::string script_interpreter(const std::string& head) {
  if (!head.starts_with("#!")) return {};
  std::istringstream words(head.substr(2, head.find('\n') - 2));
  std::string interpreter, word;
  words >> interpreter;
  const std::size_t slash = interpreter.rfind('/');
  if (slash == std::string::npos || interpreter.substr(slash + 1) != "env") return interpreter;
  while (words >> word) {
    if (word[0] != '-' && word.find('=') == std::string::npos) return word;
  }
  return interpreter;
}

ElfProbe probe_file(const std::string& path, const ElfFile& file) {
  ElfProbe probe;
  probe.path = path;
  const auto judge = [&probe](Traceable verdict, std::string reason, std::string remedy) {
    probe.verdict = verdict;
    probe.reason = std::move(reason);
    probe.remedy = std::move(remedy);
    return probe;
  };
  if (!file.is_64bit()) {
    return judge(Traceable::kOtherClass,
                 "it is a 32-bit program, and the tracer's library is a 64-bit one",
                 "record a 64-bit build of it");
  }
  if (!file.is_native()) {
    return judge(Traceable::kOtherMachine, "it is built for another processor",
                 "record on a machine that runs it natively");
  }
  // Given as a program, the loader starts another one, preloads and all.
  if (file.soname().starts_with("ld-linux")) return probe;
  const std::string& loader = file.interpreter();
  if (loader.empty() && file.is_shared_object() && !file.is_position_independent_program()) {
    return judge(Traceable::kNoProgram, "it is a shared library and no program",
                 "name the program that uses it");
  }
  if (loader.empty()) {
    return judge(Traceable::kStatic,
                 "it is statically linked, so there is no loader that could preload a library",
                 "link it dynamically (without -static) for the recording");
  }
  if (loader.find("ld-linux") == std::string::npos) {
    return judge(Traceable::kOtherLibc, fmt::format("its loader is {}, not glibc's", loader),
                 "record a build of it for glibc");
  }
  if (access(loader.c_str(), F_OK) != 0) {
    return judge(Traceable::kNoLoader,
                 fmt::format("its loader {} is not there, so it cannot start at all", loader),
                 "install the C library that it was built for, or record inside its container");
  }
  if (const std::string gain = gained_privileges(path); !gain.empty()) {
    return judge(Traceable::kPrivileged,
                 fmt::format("it is {}, so the loader ignores LD_PRELOAD", gain),
                 "record as the user whose rights it takes, or record a copy (cp leaves these "
                 "rights behind)");
  }
  probe.verdict = Traceable::kYes;
  judge_own_allocator(file, probe);
  return probe;
}

ElfProbe probe_program(const std::string& program) {
  ElfProbe probe;
  std::string name = program;
  for (int depth = 0; depth <= kInterpreterDepth; ++depth) {
    probe.path = find_program(name);
    if (probe.path.empty()) return probe;
    const std::string head = read_head(probe.path);
    name = script_interpreter(head);
    if (!name.empty()) {
      probe.scripts.push_back(probe.path);
      continue;
    }
    const auto file = ElfFile::open(probe.path);
    if (!file) return probe;
    ElfProbe found = probe_file(probe.path, file.value());
    found.scripts = std::move(probe.scripts);
    return found;
  }
  return probe;
}

}  // namespace alloctape::tracer

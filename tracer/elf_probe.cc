#include "tracer/elf_probe.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <sstream>
#include <vector>

namespace alloctape::tracer {
namespace {

#if defined(__x86_64__)
constexpr unsigned kOurMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr unsigned kOurMachine = EM_AARCH64;
#else
#error "tell the probe this machine's ELF number"
#endif

constexpr std::size_t kHeadBytes = 4096;  // the ELF header, and in practice the program headers
constexpr int kInterpreterDepth = 4;      // as many "#!" lines as the kernel follows

std::vector<unsigned char> read_range(int fd, std::uint64_t offset, std::size_t bytes) {
  std::vector<unsigned char> data(bytes);
  const ssize_t got = pread(fd, data.data(), bytes, static_cast<off_t>(offset));
  data.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return data;
}

// The loader runs in secure mode, and drops our library, when the program would gain privileges.
bool gains_privileges(int fd) {
  struct stat st;
  if (fstat(fd, &st) != 0) return false;
  if ((st.st_mode & S_ISUID) && st.st_uid != geteuid()) return true;
  const bool group_executable = st.st_mode & S_IXGRP;
  if ((st.st_mode & S_ISGID) && group_executable && st.st_gid != getegid()) return true;
  return geteuid() != 0 && fgetxattr(fd, "security.capability", nullptr, 0) > 0;
}

std::string script_interpreter(const std::vector<unsigned char>& head) {
  std::size_t at = 2;
  while (at < head.size() && (head[at] == ' ' || head[at] == '\t')) ++at;
  std::string name;
  while (at < head.size() && !std::isspace(head[at])) name += static_cast<char>(head[at++]);
  return name;
}

// The second word of "#! /usr/bin/env NAME": what will really run.
std::string env_target(const std::vector<unsigned char>& head) {
  std::string line(head.begin() + 2, head.end());
  line.resize(std::min(line.size(), line.find('\n')));
  std::istringstream words(line);
  std::string interpreter, word;
  words >> interpreter;
  while (words >> word) {
    if (word[0] != '-' && word.find('=') == std::string::npos) return word;
  }
  return {};
}

ElfProbe probe_elf(int fd, const std::vector<unsigned char>& head, ElfProbe probe) {
  Elf64_Ehdr elf;
  if (head[EI_CLASS] != ELFCLASS64) {
    probe.verdict = Traceable::kOtherClass;
    probe.reason = "it is a 32-bit program, and the tracer's library is a 64-bit one";
    return probe;
  }
  if (head.size() < sizeof elf) return probe;
  std::memcpy(&elf, head.data(), sizeof elf);
  if (elf.e_machine != kOurMachine) {
    probe.verdict = Traceable::kOtherMachine;
    probe.reason = "it is built for another processor";
    return probe;
  }
  if (elf.e_phentsize != sizeof(Elf64_Phdr)) return probe;
  const auto table = read_range(fd, elf.e_phoff, std::size_t{elf.e_phnum} * sizeof(Elf64_Phdr));
  std::string loader;
  for (std::size_t at = 0; at + sizeof(Elf64_Phdr) <= table.size(); at += sizeof(Elf64_Phdr)) {
    Elf64_Phdr segment;
    std::memcpy(&segment, table.data() + at, sizeof segment);
    if (segment.p_type != PT_INTERP) continue;
    const auto text =
        read_range(fd, segment.p_offset, std::min<std::uint64_t>(segment.p_filesz, 512));
    loader.assign(text.begin(), text.end());
    loader.resize(std::strlen(loader.c_str()));
  }
  if (loader.empty()) {
    probe.verdict = Traceable::kStatic;
    probe.reason = "it is statically linked, so there is no loader that could preload a library";
  } else if (loader.find("ld-linux") == std::string::npos) {
    probe.verdict = Traceable::kOtherLibc;
    probe.reason = "its loader is " + loader + ", not glibc's";
  } else if (gains_privileges(fd)) {
    probe.verdict = Traceable::kPrivileged;
    probe.reason =
        "it is set-user-id, set-group-id or has file capabilities, so the loader ignores "
        "LD_PRELOAD "
        "(run it as its owner instead)";
  } else {
    probe.verdict = Traceable::kYes;
  }
  return probe;
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

ElfProbe probe_program(const std::string& program) {
  ElfProbe probe;
  std::string name = program;
  for (int depth = 0; depth <= kInterpreterDepth; ++depth) {
    probe.path = find_program(name);
    if (probe.path.empty()) return probe;
    const int fd = open(probe.path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return probe;
    const auto head = read_range(fd, 0, kHeadBytes);
    if (head.size() > SELFMAG + 1 && std::memcmp(head.data(), ELFMAG, SELFMAG) == 0) {
      probe = probe_elf(fd, head, probe);
      close(fd);
      return probe;
    }
    close(fd);
    if (head.size() < 3 || head[0] != '#' || head[1] != '!') return probe;
    name = script_interpreter(head);
    const std::size_t slash = name.rfind('/');
    if (slash != std::string::npos && name.substr(slash + 1) == "env") {
      const std::string target = env_target(head);
      if (!target.empty()) name = target;
    }
  }
  return probe;
}

}  // namespace alloctape::tracer

#include "simulator/candidate.h"

#include <elf.h>
#include <glob.h>
#include <gnu/libc-version.h>
#include <malloc.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace alloctape::simulator {
namespace {

namespace fs = std::filesystem;

struct Alias {
  const char* name;
  std::vector<const char*> files;     // names to look for in library directories, best first
  std::vector<const char*> patterns;  // globs, newest match wins
  const char* packages;               // first: whose version it is
  const char* about;
};

const std::vector<Alias>& aliases() {
  static const std::vector<Alias> all = {
      {"jemalloc",
       {"libjemalloc.so.2", "libjemalloc.so"},
       {},
       "libjemalloc2",
       "arenas, decay-based purging; settings: MALLOC_CONF"},
      {"tcmalloc",
       {"libtcmalloc.so.4", "libtcmalloc.so"},
       {},
       "libgoogle-perftools4",
       "gperftools' tcmalloc with its heap profiler; settings: TCMALLOC_*"},
      {"tcmalloc_minimal",
       {"libtcmalloc_minimal.so.4", "libtcmalloc_minimal.so"},
       {},
       "libtcmalloc-minimal4",
       "gperftools' tcmalloc alone; settings: TCMALLOC_*"},
      {"mimalloc",
       {"libmimalloc.so.2", "libmimalloc.so.3", "libmimalloc.so"},
       {},
       "libmimalloc2.0",
       "free-list sharding; settings: MIMALLOC_*"},
      {"tbbmalloc",
       {"libtbbmalloc_proxy.so.2", "libtbbmalloc_proxy.so"},
       {},
       "libtbbmalloc2",
       "oneTBB's scalable allocator; settings: TBB_MALLOC_*"},
      {"scudo",
       {},
       {"/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.scudo_standalone-x86_64.so",
        "/usr/lib/clang/*/lib/*/libclang_rt.scudo_standalone*.so",
        "/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.scudo_standalone-aarch64.so"},
       "libclang-rt-14-dev libclang-common-14-dev",
       "LLVM's hardened allocator; settings: SCUDO_OPTIONS"},
  };
  return all;
}

std::vector<std::string> library_directories() {
  return {"/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64",
          "/usr/lib",       "/lib/x86_64-linux-gnu"};
}

std::string find_library(const Alias& alias) {
  std::error_code error;
  for (const char* file : alias.files)
    for (const std::string& directory : library_directories())
      if (fs::exists(directory + "/" + file, error)) return directory + "/" + file;
  for (const char* pattern : alias.patterns) {
    glob_t found = {};
    std::string last;
    if (glob(pattern, 0, nullptr, &found) == 0)
      for (std::size_t i = 0; i < found.gl_pathc; ++i)
        last = std::max(last, std::string(found.gl_pathv[i]));
    globfree(&found);
    if (!last.empty()) return last;
  }
  return {};
}

// What `dpkg-query` says of a package; empty where there is none. REQUIRES: `package` is a word of
// the table above, nothing of the user's.
std::string package_version(const std::string& package) {
  const std::string command =
      "dpkg-query -W -f '${db:Status-Status} ${Version}\\n' " + package + " 2>/dev/null";
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return {};
  char line[256] = {};
  const bool have = std::fgets(line, sizeof line, pipe) != nullptr;
  pclose(pipe);
  std::istringstream words(have ? line : "");
  std::string status, version;
  words >> status >> version;
  return status == "installed" ? version : std::string();
}

// "2.0" of libmimalloc.so.2.0; for a plain .so nothing.
std::string file_version(const std::string& library) {
  std::error_code error;
  const std::string real = fs::canonical(library, error).filename().string();
  const auto at = real.find(".so.");
  return at == std::string::npos ? std::string() : real.substr(at + 4);
}

std::string version_of(const Alias& alias, const std::string& library) {
  if (library.rfind("/usr/local/", 0) != 0) {
    std::istringstream packages(alias.packages);
    for (std::string package; packages >> package;)
      if (std::string version = package_version(package); !version.empty()) return version;
  }
  return file_version(library);
}

// Digits, and K, M or G.
std::optional<std::uint64_t> parse_number(const std::string& text) {
  std::uint64_t n = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, n);
  if (error != std::errc{} || n >> 40 != 0) return std::nullopt;
  if (rest == end) return n;
  const int shift = *rest == 'K' ? 10 : *rest == 'M' ? 20 : *rest == 'G' ? 30 : 0;
  if (shift == 0 || rest + 1 != end) return std::nullopt;
  return n << shift;
}

bool is_path(const std::string& name) {
  return name.find('/') != std::string::npos || name.find(".so.") != std::string::npos ||
         (name.size() > 3 && name.compare(name.size() - 3, 3, ".so") == 0);
}

formats::Error unknown(std::string message) {
  return {formats::ErrorCode::kIo, std::move(message), {}, std::nullopt, {}};
}

// An ELF file of this machine's class that can be preloaded.
bool is_shared_library(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  Elf64_Ehdr header = {};
  file.read(reinterpret_cast<char*>(&header), sizeof header);
  return file && std::memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 &&
         header.e_ident[EI_CLASS] == ELFCLASS64 && header.e_type == ET_DYN;
}

}  // namespace

formats::CandidateInfo Candidate::info() const {
  return {label, preload_path, version, build_id, environment};
}

std::vector<KnownAllocator> known_allocators() {
  std::vector<KnownAllocator> all;
  all.push_back({"glibc", "", true, gnu_get_libc_version(), "libc6",
                 "the C library's own; settings: MALLOC_ARENA_MAX and the like, GLIBC_TUNABLES"});
  for (const Alias& alias : aliases()) {
    KnownAllocator known{alias.name, find_library(alias), false, "", alias.packages, alias.about};
    known.installed = !known.preload_path.empty();
    if (known.installed) known.version = version_of(alias, known.preload_path);
    all.push_back(std::move(known));
  }
  return all;
}

std::optional<Setting> parse_setting(const std::string& text) {
  const auto at = text.find('=');
  if (at == std::string::npos || at == 0) return std::nullopt;
  Setting setting{text.substr(0, at), text.substr(at + 1)};
  if (setting.first == "LD_PRELOAD") return std::nullopt;
  for (const char c : setting.first)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_') return std::nullopt;
  return setting;
}

std::optional<MalloptSetting> parse_mallopt(const std::string& text) {
  static constexpr struct {
    const char* name;
    int parameter;
  } kNames[] = {{"M_MXFAST", M_MXFAST},         {"M_TRIM_THRESHOLD", M_TRIM_THRESHOLD},
                {"M_TOP_PAD", M_TOP_PAD},       {"M_MMAP_THRESHOLD", M_MMAP_THRESHOLD},
                {"M_MMAP_MAX", M_MMAP_MAX},     {"M_PERTURB", M_PERTURB},
                {"M_ARENA_TEST", M_ARENA_TEST}, {"M_ARENA_MAX", M_ARENA_MAX}};
  const auto at = text.find('=');
  if (at == std::string::npos) return std::nullopt;
  for (const auto& known : kNames) {
    if (text.compare(0, at, known.name) != 0) continue;
    const std::string value = text.substr(at + 1);
    const bool negative = !value.empty() && value[0] == '-';
    const auto number = parse_number(negative ? value.substr(1) : value);
    if (!number || *number > INT_MAX) return std::nullopt;
    const int n = static_cast<int>(*number);
    return MalloptSetting{text, known.parameter, negative ? -n : n};
  }
  return std::nullopt;
}

void add_tunables(std::vector<Setting>& environment, const std::string& tunables) {
  for (Setting& setting : environment) {
    if (setting.first != "GLIBC_TUNABLES") continue;
    setting.second += ":" + tunables;
    return;
  }
  environment.emplace_back("GLIBC_TUNABLES", tunables);
}

formats::Result<Candidate> parse_candidate(const std::string& text) {
  std::istringstream words(text);
  Candidate candidate;
  std::string name;
  words >> name;
  if (name.empty()) return unknown("an allocator needs a name");
  candidate.label = name;
  for (std::string word; words >> word;) {
    if (word.rfind("glibc.", 0) == 0 && word.find('=') != std::string::npos) {
      add_tunables(candidate.environment, word);
      candidate.label += " " + word;
      continue;
    }
    if (const auto mallopt = parse_mallopt(word)) {
      candidate.mallopt.push_back(*mallopt);
      candidate.label += " " + word;
      continue;
    }
    const auto setting = parse_setting(word);
    if (!setting)
      return unknown("\"" + word + "\" in \"" + text + "\" is no setting of the form NAME=VALUE");
    candidate.environment.push_back(*setting);
    candidate.label += " " + word;
  }

  if (is_path(name)) {
    std::error_code error;
    const fs::path real = fs::canonical(name, error);
    if (error) return unknown("there is no library " + name + ": " + error.message());
    if (!is_shared_library(real.string()))
      return unknown(name + " is no 64-bit ELF shared library");
    candidate.name = fs::path(name).filename().string();
    candidate.preload_path = fs::absolute(name, error).string();
    candidate.version = file_version(name);
    candidate.build_id = build_id_of(candidate.preload_path);
    return candidate;
  }

  std::string names;
  for (const KnownAllocator& known : known_allocators()) {
    names += (names.empty() ? "" : ", ") + known.name;
    if (known.name != name) continue;
    if (!known.installed)
      return unknown(name + " is not installed here (Debian: apt-get install " +
                     known.packages.substr(0, known.packages.find(' ')) + ")");
    candidate.name = known.name;
    candidate.preload_path = known.preload_path;
    candidate.version = known.version;
    if (!known.preload_path.empty()) candidate.build_id = build_id_of(known.preload_path);
    return candidate;
  }
  return unknown("there is no allocator \"" + name + "\"; known are " + names +
                 ", or the path of a library");
}

std::string build_id_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  Elf64_Ehdr header = {};
  file.read(reinterpret_cast<char*>(&header), sizeof header);
  if (!file || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
      header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_phentsize != sizeof(Elf64_Phdr))
    return {};
  for (int i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment = {};
    file.seekg(static_cast<std::streamoff>(header.e_phoff + i * sizeof segment));
    file.read(reinterpret_cast<char*>(&segment), sizeof segment);
    if (!file) return {};
    if (segment.p_type != PT_NOTE || segment.p_filesz > 4096) continue;
    std::vector<char> notes(segment.p_filesz);
    file.seekg(static_cast<std::streamoff>(segment.p_offset));
    file.read(notes.data(), static_cast<std::streamsize>(notes.size()));
    if (!file) return {};
    auto padded = [](std::size_t n) { return (n + 3) & ~std::size_t{3}; };
    for (std::size_t at = 0; at + sizeof(Elf64_Nhdr) <= notes.size();) {
      Elf64_Nhdr note;
      std::memcpy(&note, notes.data() + at, sizeof note);
      const std::size_t name_at = at + sizeof note;
      const std::size_t id_at = name_at + padded(note.n_namesz);
      if (id_at > notes.size() || note.n_descsz > notes.size() - id_at) break;
      if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
          std::memcmp(notes.data() + name_at, "GNU", 4) == 0) {
        std::string hex;
        for (std::size_t k = 0; k < note.n_descsz; ++k) {
          char digits[3];
          std::snprintf(digits, sizeof digits, "%02x",
                        static_cast<unsigned char>(notes[id_at + k]));
          hex += digits;
        }
        return hex;
      }
      at = id_at + padded(note.n_descsz);
    }
  }
  return {};
}

}  // namespace alloctape::simulator

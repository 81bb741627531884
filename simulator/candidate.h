// Candidates: an allocator and its settings, from what a user writes to what a process is started
// with.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/result.h"
#include "formats/result_json.h"

namespace alloctape::simulator {

using Setting = std::pair<std::string, std::string>;  // of the environment

// Of mallopt, by the name that <malloc.h> has: "M_MMAP_THRESHOLD", "65536".
struct MalloptSetting {
  std::string text;  // as written
  int parameter;
  int value;
};
// "M_NAME=VALUE", VALUE with a binary suffix if wanted; nullopt when it is not that.
std::optional<MalloptSetting> parse_mallopt(const std::string& text);

// Adds "glibc.malloc.NAME=VALUE[:...]" to the GLIBC_TUNABLES among the settings.
void add_tunables(std::vector<Setting>& environment, const std::string& tunables);

struct Candidate {
  std::string label;         // as the user wrote it: "jemalloc MALLOC_CONF=narenas:2"
  std::string name;          // "jemalloc", or the file's name
  std::string preload_path;  // absolute path to preload; empty: the C library's own allocator
  std::string version;       // empty: unknown
  std::string build_id;
  std::vector<Setting> environment;
  std::vector<MalloptSetting> mallopt;

  formats::CandidateInfo info() const;
};

// An allocator that we know by name.
struct KnownAllocator {
  std::string name;
  std::string preload_path;  // where it is; empty when missing, and always for glibc
  bool installed = false;
  std::string version;
  std::string packages;  // that bring it, on Debian 12
  std::string about;
};

// All that we know, installed or not, glibc first.
std::vector<KnownAllocator> known_allocators();

// "NAME [K=V ...]": a K=V is a variable of the environment, glibc.malloc.X=V a tunable of glibc's,
// M_X=V a setting of mallopt. NAME is a known allocator or the path of a library (it has a slash,
// or ends in .so, or has .so. in it). The error says what is known, or what to install.
formats::Result<Candidate> parse_candidate(const std::string& text);

// "K=V"; nullopt when it is not that, or would undo what the driver sets (LD_PRELOAD).
std::optional<Setting> parse_setting(const std::string& text);

// The GNU build id of an ELF file in hex; empty when it has none.
std::string build_id_of(const std::string& path);

}  // namespace alloctape::simulator

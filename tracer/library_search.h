// Which libraries the dynamic loader would load for a program, and in which order, found without
// running anything: ldd would run the program's loader, which is the program's to name.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tracer/elf_file.h"

namespace alloctape::tracer {

struct LoadedObject {
  std::string path;
  std::shared_ptr<const ElfFile> file;
};

struct LoadOrder {
  // The executable, what is preloaded, then the libraries they need, breadth first: the order in
  // which symbols are looked up.
  std::vector<LoadedObject> objects;
  // Needed, but not found: "libx.so.1", and by whom.
  struct Missing {
    std::string name, needed_by;
  };
  std::vector<Missing> missing;
};

struct SearchSettings {
  std::string ld_library_path;          // LD_LIBRARY_PATH
  std::vector<std::string> preload;  // entries of LD_PRELOAD and /etc/ld.so.preload, in order
  std::string cache = "/etc/ld.so.cache";
};
// From this process's own environment: what a program started from here would get.
SearchSettings search_settings();

LoadOrder load_order(const std::string& program, std::shared_ptr<const ElfFile> file,
                     const SearchSettings& settings);

// The paths that the loader's cache gives for a library's name. Exposed for tests: the file is read
// as hostile.
std::vector<std::string> cached_paths(std::span<const std::byte> cache, const std::string& name);

// Splits a list as the loader does LD_PRELOAD: at spaces and colons.
std::vector<std::string> preload_entries(const std::string& list);

}  // namespace alloctape::tracer

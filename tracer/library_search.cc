#include "tracer/library_search.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include "formats/mapped_file.h"

namespace alloctape::tracer {
namespace {

constexpr std::size_t kMaxObjects = 4096;

#if defined(__x86_64__)
constexpr const char* kMultiarch = "x86_64-linux-gnu";
#else
constexpr const char* kMultiarch = "aarch64-linux-gnu";
#endif

// The file that ldconfig writes, as glibc 2.2 and later read it. All offsets count from its start.
struct CacheHeader {
  char magic[20];  // "glibc-ld.so.cache1.1"
  std::uint32_t entries, string_bytes, flags, extension_offset, unused[3];
};
static_assert(sizeof(CacheHeader) == 48);
struct CacheEntry {
  std::uint32_t flags, name, path, os_version;
  std::uint64_t hwcap;
};
static_assert(sizeof(CacheEntry) == 24);
constexpr char kCacheMagic[] = "glibc-ld.so.cache1.1";

std::string text_at(std::span<const std::byte> bytes, std::uint64_t offset) {
  if (offset >= bytes.size()) return {};
  const char* start = reinterpret_cast<const char*>(bytes.data()) + offset;
  const std::size_t length = strnlen(start, bytes.size() - offset);
  return length == bytes.size() - offset ? std::string{} : std::string(start, length);
}

std::vector<std::string> split(const std::string& list, const char* separators) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= list.size();) {
    const std::size_t end = std::min(list.find_first_of(separators, at), list.size());
    parts.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

void replace_all(std::string& text, const std::string& what, const std::string& with) {
  for (std::size_t at = text.find(what); at != std::string::npos;
       at = text.find(what, at + with.size())) {
    text.replace(at, what.size(), with);
  }
}

// The loader's substitutions in search paths. $PLATFORM is left: next to nobody uses it.
std::string substitute(std::string text, const std::string& origin) {
  for (const char* name : {"${ORIGIN}", "$ORIGIN"}) replace_all(text, name, origin);
  for (const char* name : {"${LIB}", "$LIB"}) {
    replace_all(text, name, std::string("lib/") + kMultiarch);
  }
  return text;
}

class Loader {
 public:
  explicit Loader(const SearchSettings& settings) : settings_(settings) {
    auto cache = formats::MappedFile::open(settings.cache);
    if (cache) cache_ = std::move(cache).value();
  }

  LoadOrder load(const std::string& program, std::shared_ptr<const ElfFile> file) {
    add(program, std::move(file));
    const LoadedObject executable = order_.objects.front();
    for (const std::string& name : settings_.preload) {
      need(name, executable, /*is_preload=*/true);
    }
    // The list grows while it is gone through: breadth first.
    for (std::size_t i = 0; i < order_.objects.size(); ++i) {
      const LoadedObject object = order_.objects[i];
      for (const std::string& name : object.file->needed()) need(name, object, false);
    }
    return std::move(order_);
  }

 private:
  void add(const std::string& path, std::shared_ptr<const ElfFile> file) {
    if (!file->soname().empty()) known_.insert(file->soname());
    order_.objects.push_back({path, std::move(file)});
  }

  void need(const std::string& name, const LoadedObject& by, bool is_preload) {
    if (order_.objects.size() >= kMaxObjects || !known_.insert(name).second) return;
    for (const std::string& path : candidates(name, by)) {
      auto file = ElfFile::open(path);
      if (!file || !file->is_native()) continue;
      char* real = realpath(path.c_str(), nullptr);
      const bool is_new = real == nullptr || files_.insert(real).second;
      std::free(real);
      if (is_new) add(path, std::make_shared<const ElfFile>(std::move(file).value()));
      return;
    }
    // The loader goes on without a preload that is not there.
    if (!is_preload) order_.missing.push_back({name, by.path});
  }

  // A program's own folder is found through its symbolic links, a library's is not.
  std::string origin_of(const LoadedObject& object) const {
    if (object.file != order_.objects.front().file) return folder_of(object.path);
    char* real = realpath(object.path.c_str(), nullptr);
    const std::string folder = folder_of(real == nullptr ? object.path : real);
    std::free(real);
    return folder;
  }

  std::vector<std::string> candidates(const std::string& name, const LoadedObject& by) const {
    const std::string origin = origin_of(by);
    if (name.find('/') != std::string::npos) return {substitute(name, origin)};
    std::vector<std::string> paths;
    const auto add_folders = [&](const std::string& list, const std::string& from) {
      if (list.empty()) return;
      for (const std::string& folder : split(list, ":;")) {
        paths.push_back((folder.empty() ? "." : substitute(folder, from)) + "/" + name);
      }
    };
    if (by.file->runpath().empty()) {
      add_folders(by.file->rpath(), origin);
      // The executable's is searched for everybody.
      const LoadedObject& executable = order_.objects.front();
      if (executable.file->runpath().empty() && executable.path != by.path) {
        add_folders(executable.file->rpath(), origin_of(executable));
      }
    }
    add_folders(settings_.ld_library_path, origin);
    add_folders(by.file->runpath(), origin);
    const std::span<const std::byte> cache{cache_.data(), static_cast<std::size_t>(cache_.size())};
    for (std::string& path : cached_paths(cache, name)) paths.push_back(std::move(path));
    for (const std::string root : {"/lib", "/usr/lib"}) {
      paths.push_back(root + "/" + kMultiarch + "/" + name);
      paths.push_back(root + "64/" + name);
      paths.push_back(root + "/" + name);
    }
    return paths;
  }

  const SearchSettings& settings_;
  formats::MappedFile cache_;
  LoadOrder order_;
  std::set<std::string> known_;  // names that were asked for, and sonames that answered
  std::set<std::string> files_;
};

}  // namespace

std::vector<std::string> cached_paths(std::span<const std::byte> cache, const std::string& name) {
  CacheHeader header;
  // A cache for older libraries too holds the newer one behind the older.
  std::size_t start = 0;
  if (cache.size() >= 12 && std::memcmp(cache.data(), "ld.so-1.7.0", 11) == 0) {
    const void* found = memmem(cache.data(), cache.size(), kCacheMagic, sizeof header.magic);
    if (found == nullptr) return {};
    start = static_cast<std::size_t>(static_cast<const std::byte*>(found) - cache.data());
  }
  const std::span<const std::byte> body = cache.subspan(start);
  if (body.size() < sizeof header) return {};
  std::memcpy(&header, body.data(), sizeof header);
  if (std::memcmp(header.magic, kCacheMagic, sizeof header.magic) != 0) return {};
  std::vector<std::string> paths;
  for (std::uint64_t i = 0; i < header.entries; ++i) {
    const std::uint64_t at = sizeof header + i * sizeof(CacheEntry);
    if (body.size() - sizeof header < (i + 1) * sizeof(CacheEntry)) break;
    CacheEntry entry;
    std::memcpy(&entry, body.data() + at, sizeof entry);
    if (entry.name >= body.size() || body.size() - entry.name <= name.size()) continue;
    if (std::memcmp(body.data() + entry.name, name.c_str(), name.size() + 1) != 0) continue;
    const std::string path = text_at(body, entry.path);
    if (!path.empty()) paths.push_back(path);
  }
  return paths;
}

std::vector<std::string> preload_entries(const std::string& list) {
  std::vector<std::string> entries;
  for (std::string& entry : split(list, ": \t\n")) {
    if (!entry.empty()) entries.push_back(std::move(entry));
  }
  return entries;
}

SearchSettings search_settings() {
  SearchSettings settings;
  if (const char* path = std::getenv("LD_LIBRARY_PATH")) settings.ld_library_path = path;
  if (const char* preload = std::getenv("LD_PRELOAD")) settings.preload = preload_entries(preload);
  std::ifstream system("/etc/ld.so.preload");
  const std::string text{std::istreambuf_iterator<char>(system), {}};
  for (std::string& entry : preload_entries(text)) settings.preload.push_back(std::move(entry));
  return settings;
}

LoadOrder load_order(const std::string& program, std::shared_ptr<const ElfFile> file,
                     const SearchSettings& settings) {
  return Loader(settings).load(program, std::move(file));
}

}  // namespace alloctape::tracer

// A file, mapped read-only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "formats/result.h"

namespace alloctape::formats {

class MappedFile {
 public:
  static Result<MappedFile> open(const std::string& path);  // regular files only; empty is fine
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();
  const std::byte* data() const { return data_; }
  std::uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }
  void advise_sequential() const;
  // Tells the kernel that [offset, offset+bytes) has been read and need not stay resident.
  void drop(std::uint64_t offset, std::uint64_t bytes) const;

 private:
  const std::byte* data_ = nullptr;
  std::uint64_t size_ = 0;
  std::string path_;
};

}  // namespace alloctape::formats

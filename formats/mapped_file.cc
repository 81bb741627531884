#include "formats/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>

namespace alloctape::formats {

namespace {

Error io_error(const std::string& path, const char* what) {
  return {ErrorCode::kIo, fmt::format("{}: {}", what, std::strerror(errno)), path, {}, {}};
}

// Lays zero pages of our own over the holes of a sparse file. On tmpfs, even reading a hole through
// a mapping allocates a page, and on one that is full that is SIGBUS; a trace whose disk ran full
// is just what a user wants to look at. Failure leaves the mapping as it was, which serves
// everywhere else.
void cover_holes(int fd, std::byte* data, std::uint64_t size) {
  static const std::uint64_t page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  for (::off_t at = 0; static_cast<std::uint64_t>(at) < size;) {
    const ::off_t hole = ::lseek(fd, at, SEEK_HOLE);
    if (hole < 0 || static_cast<std::uint64_t>(hole) >= size) return;
    ::off_t next = ::lseek(fd, hole, SEEK_DATA);
    if (next < 0) next = static_cast<::off_t>(size);  // ENXIO: nothing but hole from here
    const std::uint64_t first = (static_cast<std::uint64_t>(hole) + page - 1) / page * page;
    const std::uint64_t last = static_cast<std::uint64_t>(next) / page * page;
    if (first < last) {
      ::mmap(data + first, last - first, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    }
    at = next;
  }
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::string& path) {
  // O_NONBLOCK: opening a FIFO that nobody writes must not hang before it can be refused.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return io_error(path, "cannot open");
  struct stat st {};
  if (::fstat(fd, &st) != 0) {
    const Error error = io_error(path, "cannot stat");
    ::close(fd);
    return error;
  }
  if (!S_ISREG(st.st_mode)) {
    ::close(fd);
    return Error{ErrorCode::kIo, "not a regular file", path, {}, {}};
  }
  MappedFile file;
  file.path_ = path;
  file.size_ = static_cast<std::uint64_t>(st.st_size);
  if (file.size_ != 0) {
    void* data = ::mmap(nullptr, file.size_, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) {
      const Error error = io_error(path, "cannot map");
      file.size_ = 0;
      ::close(fd);
      return error;
    }
    file.data_ = static_cast<const std::byte*>(data);
    if (static_cast<std::uint64_t>(st.st_blocks) * 512 < file.size_) {
      cover_holes(fd, static_cast<std::byte*>(data), file.size_);
    }
  }
  ::close(fd);
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      path_(std::move(other.path_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(path_, other.path_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::advise_sequential() const {
  if (data_ != nullptr) ::madvise(const_cast<std::byte*>(data_), size_, MADV_SEQUENTIAL);
}

void MappedFile::drop(std::uint64_t offset, std::uint64_t bytes) const {
  if (data_ == nullptr || offset >= size_) return;
  static const std::uint64_t page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  // Only whole pages inside the range: what shares a page with it may still be in use.
  const std::uint64_t end = bytes > size_ - offset ? size_ : offset + bytes;
  const std::uint64_t first = (offset + page - 1) / page * page;
  const std::uint64_t last = end / page * page;
  if (first < last) {
    ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
  }
}

}  // namespace alloctape::formats

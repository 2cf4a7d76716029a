#include "core/base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "npu/error.h"

namespace npu {

namespace {

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  throw Error(
      ErrorKind::kInvalidValue,
      {.area = "file", .what = "cannot read " + quoted(path), .got = why, .expected = "a readable file"});
}

[[noreturn]] void refuse(const std::string& path, int code) {
  refuse(path, std::generic_category().message(code));
}

struct Descriptor {
  int number;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
};

}  // namespace

std::shared_ptr<MappedFile> MappedFile::open(const std::string& path) {
  // Opening a pipe would wait for its writer.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.number < 0) refuse(path, errno);
  struct stat status{};
  if (::fstat(file.number, &status) != 0) refuse(path, errno);
  if (S_ISDIR(status.st_mode)) refuse(path, "a folder");
  if (!S_ISREG(status.st_mode)) refuse(path, "not a regular file");
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return std::shared_ptr<MappedFile>(new MappedFile(nullptr, nullptr, 0));
  void* const data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number, 0);
  if (data == MAP_FAILED) refuse(path, errno);
  return std::shared_ptr<MappedFile>(new MappedFile(nullptr, static_cast<std::byte*>(data), size));
}

// Whole pages only: tensors share the others. They are read from the file again if they must.
void MappedFile::unused(const void* data, std::size_t bytes) const {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(data) + page - 1) / page * page;
  const auto end = (reinterpret_cast<std::uintptr_t>(data) + bytes) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  if (data() != nullptr) ::munmap(data(), size());
}

}  // namespace npu

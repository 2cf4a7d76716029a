#include "whole_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "npu/error.h"

namespace npu::bench {

namespace {

[[noreturn]] void refuse(const std::string& path, const std::string& reason) {
  throw Error(ErrorKind::kInvalidValue, {.area = "npu-bench",
                                         .what = "cannot write " + npu::quoted(path) + ": " + reason,
                                         .action = "another file"});
}

// The errno of the first call that fails, or 0.
int write_and_close(int file, const std::string& text, bool sync) {
  int error = 0;
  for (std::size_t done = 0; done < text.size() && error == 0;) {
    const ssize_t count = ::write(file, text.data() + done, text.size() - done);
    if (count >= 0)
      done += static_cast<std::size_t>(count);
    else if (errno != EINTR)
      error = errno;
  }
  if (error == 0 && sync && ::fsync(file) != 0) error = errno;
  if (::close(file) != 0 && error == 0) error = errno;
  return error;
}

}  // namespace

void write_whole_file(const std::string& path, const std::string& text) {
  struct stat old{};
  const bool exists = ::stat(path.c_str(), &old) == 0;
  if (exists && S_ISDIR(old.st_mode)) refuse(path, "it is a folder");
  if (exists && !S_ISREG(old.st_mode)) {  // a device or a pipe, which must not be replaced by a file
    const int file = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    const int error = file < 0 ? errno : write_and_close(file, text, false);
    if (error != 0) refuse(path, std::strerror(error));
    return;
  }
  if (exists && ::access(path.c_str(), W_OK) != 0) refuse(path, std::strerror(errno));
  // A link stays a link, to the new contents.
  std::error_code ignored;
  const std::string target = exists ? std::filesystem::canonical(path, ignored).string() : path;
  const std::string temporary = target + "." + std::to_string(::getpid()) + ".tmp";
  const int file = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  int error = file < 0 ? errno : 0;
  if (error == 0) {
    if (exists) (void)::fchmod(file, old.st_mode & 07777);
    error = write_and_close(file, text, true);
    if (error == 0 && std::rename(temporary.c_str(), target.c_str()) != 0) error = errno;
    if (error != 0) (void)::unlink(temporary.c_str());
  }
  if (error != 0) refuse(path, std::strerror(error));
}

}  // namespace npu::bench

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "cuda/device/kernel_cache.h"
#include "support/check.h"

namespace fs = std::filesystem;
using npu::cuda::KernelCache;

namespace {

// A folder of its own, gone with the test.
class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / ("npu-cache-" + std::to_string(::getpid()))) {
    fs::remove_all(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }
  std::size_t files() const {
    std::size_t count = 0;
    for (const auto& file : fs::directory_iterator(path_)) count += file.exists() ? 1 : 0;
    return count;
  }

 private:
  fs::path path_;
};

void use(const fs::path& file, int hours_ago) {
  fs::last_write_time(file, fs::file_time_type::clock::now() - std::chrono::hours(hours_ago));
}

}  // namespace

TEST(kernel_cache, gives_back_what_was_kept) {
  const Folder folder;
  const KernelCache cache(folder.path() / "deep" / "er");
  CHECK(!cache.find("a"));
  const std::string cubin("\0\1\xff text\n", 8);
  cache.keep("a", cubin);
  cache.keep("b", "");  // a write that did not come through is as good as none
  CHECK(cache.find("a") == cubin);
  CHECK(!cache.find("b"));
  CHECK(!cache.find("c"));
  cache.keep("a", "other");
  CHECK(cache.find("a") == std::string("other"));
}

TEST(kernel_cache, passes_over_damaged_files) {
  const Folder folder;
  const KernelCache cache(folder.path());
  const std::string cubin(1000, 'k');
  cache.keep("a", cubin);
  fs::path file;
  for (const auto& entry : fs::directory_iterator(folder.path())) file = entry.path();
  fs::resize_file(file, 500);
  CHECK(!cache.find("a"));
  cache.keep("a", cubin);
  std::fstream(file, std::ios::in | std::ios::out | std::ios::binary).seekp(700) << 'x';
  CHECK(!cache.find("a"));
  std::ofstream(file) << "no line's end";
  CHECK(!cache.find("a"));
  cache.keep("a", cubin);
  CHECK(cache.find("a") == cubin);
}

TEST(kernel_cache, removes_what_a_killed_process_left) {
  const Folder folder;
  const KernelCache cache(folder.path());
  cache.keep("a", "kernel");
  std::ofstream(folder.path() / "b.1.0.tmp") << "half";
  std::ofstream(folder.path() / "c.1.0.tmp") << "is being written";
  use(folder.path() / "b.1.0.tmp", 2);
  cache.shrink();
  CHECK_EQ(folder.files(), 2u);
  CHECK(cache.find("a") == std::string("kernel"));
}

TEST(kernel_cache, is_none_where_nothing_can_be_written) {
  const Folder folder;
  fs::create_directories(folder.path());
  std::ofstream(folder.path() / "file") << "not a folder";
  for (const fs::path& path : {folder.path() / "file" / "cache", fs::path()}) {
    const KernelCache cache(path);
    cache.keep("a", "text");
    CHECK(!cache.find("a"));
    cache.shrink(0);
  }
  CHECK_EQ(folder.files(), std::size_t{1});
}

TEST(kernel_cache, removes_what_was_used_longest_ago) {
  const Folder folder;
  const KernelCache cache(folder.path());
  for (const char* const key : {"old", "used", "new"}) cache.keep(key, std::string(100, 'x'));
  use(folder.path() / "old.cubin", 3);
  use(folder.path() / "used.cubin", 4);
  use(folder.path() / "new.cubin", 1);
  CHECK(cache.find("used").has_value());  // which counts as a use
  cache.shrink(1000);
  CHECK_EQ(folder.files(), std::size_t{3});
  cache.shrink(350);
  CHECK(!cache.find("old") && cache.find("used") && cache.find("new"));
  cache.shrink(0);
  CHECK_EQ(folder.files(), std::size_t{0});
}

TEST(kernel_cache, never_shows_a_part_of_a_file) {
  const Folder folder;
  const KernelCache cache(folder.path());
  const std::string whole(1 << 16, 'y');
  std::vector<std::thread> writers;
  for (int i = 0; i < 4; ++i)
    writers.emplace_back([&] {
      for (int n = 0; n < 50; ++n) cache.keep("a", whole);
    });
  for (int n = 0; n < 200; ++n) {
    const auto cubin = cache.find("a");
    CHECK(!cubin || *cubin == whole);
  }
  for (std::thread& writer : writers) writer.join();
  CHECK_EQ(folder.files(), std::size_t{1});
}

// How NVRTC is found, and what is said where it is not. What it compiles is the business of tests/cuda.
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "cuda/nvrtc.h"
#include "npu/error.h"
#include "support/check.h"

using namespace npu;
using cuda::Nvrtc;

TEST(cuda_nvrtc, a_named_library_that_is_none) {
  setenv("NPU_NVRTC", "/nonexistent/libnvrtc.so.13", 1);
  const std::vector<std::string> none;
  CHECK_THROWS(Nvrtc::open(none), "the environment variable NPU_NVRTC names no library that can be used");
  CHECK_THROWS(Nvrtc::open(none), "/nonexistent/libnvrtc.so.13");
  CHECK_THROWS(Nvrtc::open(none), "pip install 'npu-simulation[cuda]'");
  unsetenv("NPU_NVRTC");
}

// A library without NVRTC's functions, and a file that is no library at all, are passed over and listed.
TEST(cuda_nvrtc, damaged_wheels_are_listed) {
  setenv("CUDA_HOME", "/nonexistent", 1);
  unsetenv("CUDA_PATH");
  const std::filesystem::path site =
      std::filesystem::temp_directory_path() / ("npu-nvrtc-" + std::to_string(getpid()));
  std::filesystem::create_directories(site / "nvidia" / "cu13" / "lib");
  std::ofstream(site / "nvidia" / "cu13" / "lib" / "libnvrtc.so.13") << "not a library";
  const std::vector<std::string> sites = {site.string(), "/nonexistent"};
  std::string message;
  try {
    Nvrtc::open(sites);  // a toolkit of the machine may be found after it
  } catch (const Error& error) {
    message = error.what();
    CHECK(message.find("nvidia/cu13/lib/libnvrtc.so.13") != std::string::npos);
    CHECK(message.find("was not found") != std::string::npos);
  }
  std::filesystem::remove_all(site);
}

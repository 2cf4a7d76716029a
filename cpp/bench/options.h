// The command line of npu-bench.
#pragma once

#include <cstdint>
#include <string>

namespace npu::bench {

struct Options {
  std::string program;
  std::string weights;  // empty: random ones
  std::string device;   // empty: the best
  std::string json;     // empty: none; "-": standard output
  int runs = 20;
  int warmup = 3;
  int threads = 0;  // 0: the library's default
  std::uint64_t seed = 0;
  bool profile = false;
  bool plan = false;
  bool text = false;
  bool help = false;
  bool version = false;
};

// Throws npu::Error with what is wrong with the arguments.
Options parse_options(int argc, const char* const* argv);

std::string usage();

}  // namespace npu::bench

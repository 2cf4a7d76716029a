// Sources that nobody wrote: the lowering refuses them with file and line, or makes something of them.
#include <random>

#include "cuda/lower/lower.h"
#include "gpu/device/kernel_sources.h"
#include "msl/sources.h"

using namespace npu;
using namespace npu::test;

namespace {

const char* const kPieces[] = {"(",
                               ")",
                               "[[",
                               "]]",
                               "{",
                               "}",
                               "<",
                               ">",
                               "\"",
                               "'",
                               "#",
                               "##",
                               "#if 1\n",
                               "#endif\n",
                               "\\\n",
                               "/*",
                               "//",
                               ";",
                               ",",
                               "...",
                               "kernel ",
                               "template ",
                               "constant ",
                               "threadgroup ",
                               "enum ",
                               "namespace ",
                               "[[buffer(0)]]",
                               "[[function_constant(0)]]",
                               ".xy",
                               "=",
                               "1.0",
                               "_Pragma(\"x\")",
                               "__VA_ARGS__"};

std::string damaged(std::string text, std::mt19937& random) {
  const auto below = [&](std::size_t n) { return n == 0 ? 0 : random() % n; };
  for (std::size_t n = 1 + below(3); n > 0; --n) {
    const std::size_t at = below(text.size());
    switch (below(3)) {
      case 0:
        text.insert(at, kPieces[below(std::size(kPieces))]);
        break;
      case 1:
        text.erase(at, 1 + below(20));
        break;
      default:
        text.insert(below(text.size()), text.substr(at, below(40)));
    }
  }
  return text;
}

}  // namespace

TEST(cuda_damaged, sources) {
  std::mt19937 random(7);
  const std::string kernel = gpu::kernel_file("softmax.metal").value();
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    const std::string text = damaged(kernel, random);
    const std::string error = source_error([&] {
      cuda::lower(text, "test", [&](const std::string& name) -> std::optional<std::string> {
        return name == "rows.h" ? "enum { kFcRowsEnd, kFcSoftmaxLog, kFcSoftmaxParts, kBufferArgs, kBufferX, "
                                  "kBufferY, kBufferSoftmaxPeaks };\n"
                                : gpu::kernel_file(name);
      });
    });
    if (error.empty()) continue;
    ++refused;
    CHECK(error.find(": error: ") != std::string::npos);
  }
  CHECK(refused > 500);
}

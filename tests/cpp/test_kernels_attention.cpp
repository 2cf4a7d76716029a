// Attention on the software shader machine, against its definition in double.
#include "attention_problem.h"

using namespace npu;
using namespace npu::test;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr MaskKind kMasks[] = {MaskKind::kBool, MaskKind::kFloat, MaskKind::kOwn};

// Every row sees another set of columns, and some others nothing of some blocks.
double scattered(std::int64_t n, std::int64_t h, std::int64_t s, std::int64_t t) {
  return (5 * n + 3 * h + 7 * s + t * t) % 4 == 0 || (t / 32 + s) % 3 == 1 ? -kInfinity : 0;
}

}  // namespace

// Heads of unusual widths.
TEST(kernels_attention, any_sizes) {
  for (const DType dtype : kFloatTypes) {
    for (const bool causal : {false, true}) {
      CHECK_ATTENTION(.rows = 5, .length = 70, .width = 515, .value_width = 7, .dtype = dtype,
                      .causal = causal);
      CHECK_ATTENTION(.heads = 2, .rows = 2, .length = 33, .width = 3, .value_width = 530, .dtype = dtype,
                      .causal = causal);
    }
    CHECK_ATTENTION(.rows = 2, .length = 1, .width = 0, .value_width = 600, .dtype = dtype);
    for (const MaskKind mask : kMasks) {
      CHECK_ATTENTION(.heads = 4, .rows = 3, .length = 100, .width = 5, .value_width = 300, .dtype = dtype,
                      .mask = mask, .addend = scattered, .mask_per_head = true,
                      .nan = mask == MaskKind::kFloat);
    }
  }
}

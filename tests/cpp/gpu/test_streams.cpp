// How threadgroups with rings of bulk copies share a product of one row.
#include "cuda/device/chips.h"
#include "gpu/ops/stream.h"
#include "metal/constants.h"
#include "support/check.h"

using namespace npu;
using namespace npu::gpu;

namespace {

const Caps kH200 = cuda::caps_of(*find_chip(cuda::kChips, "h200"));

Stream stream(const StreamWork& work) {
  const auto chosen = choose_stream(work, kH200);
  CHECK(chosen.has_value());
  return chosen.value_or(Stream{});
}

}  // namespace

TEST(gpu_streams, of_a_step_of_qwen) {
  const Stream gate = stream({8960, 1536, 2, DType::kBFloat16});
  CHECK_EQ(gate.groups, 132U);
  CHECK_EQ(gate.sharers, 1);
  CHECK_EQ(gate.vectors, 6);
  CHECK_EQ(gate.stages, 4);
  CHECK_EQ(gate.bytes, kStreamRingBytes);
  const Stream down = stream({1536, 8960, 1, DType::kBFloat16});
  CHECK_EQ(down.sharers, 7);  // five vectors each, all of the depth
  CHECK_EQ(down.vectors, 5);
  CHECK_EQ(down.part, 1280);
  const Stream out = stream({1536, 1536, 1, DType::kBFloat16});
  CHECK_EQ(out.sharers, 2);  // 12 results are three for each of four sets, and 2 for each of eight
  CHECK_EQ(out.stages, 3);   // all that it needs
  CHECK_EQ(out.bytes, 36 << 10);
  CHECK_EQ(out.ahead, 0);
}

TEST(gpu_streams, rings_hold_what_kernels_put_there) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat16}) {
    for (std::int64_t depth = 256; depth <= 20000; depth += 8) {
      for (const std::int64_t results : {132, 1000, 100000}) {
        const auto chosen = choose_stream({results, depth, 1, dtype}, kH200);
        const std::int64_t bytes = depth * static_cast<std::int64_t>(size_of(dtype));
        CHECK_EQ(chosen.has_value(), bytes <= 32 << 10);
        if (!chosen) continue;
        CHECK(chosen->vectors <= kMostStreamVectors && chosen->stages >= 1 &&
              chosen->stages <= kMostStreamStages && chosen->bytes <= kStreamRingBytes);
        CHECK(chosen->part * (chosen->sharers - 1) < depth && chosen->part * chosen->sharers >= depth);
        CHECK(chosen->stages >= 2 || results <= 8 * 132);  // one is enough only if it is never filled again
      }
    }
  }
}

TEST(gpu_streams, what_is_left_to_other_kernels) {
  const auto is_none = [](const StreamWork& work, const Caps& caps = kH200) {
    return !choose_stream(work, caps).has_value();
  };
  CHECK(!is_none({132, 256, 1, DType::kFloat16}));
  CHECK(is_none({131, 256, 1, DType::kFloat16}));    // fewer results than cores
  CHECK(is_none({132, 260, 1, DType::kFloat16}));    // no vectors
  CHECK(is_none({132, 248, 1, DType::kFloat16}));    // not a line of them
  CHECK(is_none({132, 16392, 1, DType::kFloat16}));  // more than the lanes hold
  CHECK(is_none({132, 256, 1, DType::kFloat16}, cuda::caps_of(*find_chip(cuda::kChips, "l4"))));
}

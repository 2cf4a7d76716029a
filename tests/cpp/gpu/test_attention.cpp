// Which kernels attention and rotary positions are given, with which grids, bytes and scratch.
#include "core/program/shapes.h"
#include "gpu/ops/ops.h"
#include "metal/args.h"
#include "support/check.h"
#include "support/gpu_requests.h"

using namespace npu;
using namespace npu::gpu;

namespace {

constexpr DType kBFloat = DType::kBFloat16, kFloat = DType::kFloat32;

using test::cores;
using test::tensor;

struct Heads {
  std::int64_t heads, groups, rows, length, width;
};

KernelPtr attention(const Heads& h, DType dtype = kBFloat, const Caps& caps = cores(40)) {
  Op op;
  op.kind = OpKind::kAttention;
  op.attrs.emplace<AttentionAttrs>(AttentionAttrs{0.1, false, {}});
  const TensorDesc q = tensor(dtype, {1, h.heads, h.rows, h.width});
  const TensorDesc k = tensor(dtype, {1, h.groups, h.length, h.width});
  const TensorDesc mask = tensor(DType::kBool, {1, h.heads, h.rows, h.length}, {0, 0, h.length, 1});
  return make_attention({{op, {q, k, k, mask}, {q}, 1}, caps});
}

const Dispatch& first(const KernelPtr& kernel) { return kernel->dispatches().front(); }

std::string text(const Dispatch& launch) {
  std::string text = launch.function;
  for (const auto n : launch.groups) text += " " + std::to_string(n);
  return text + " of " + std::to_string(launch.threads[0]);
}

}  // namespace

TEST(gpu_attention, heads_that_share_keys_share_what_is_read) {
  const KernelPtr decode = attention({12, 2, 1, 256, 128});
  CHECK_EQ(decode->dispatches().size(), 1u);
  CHECK_EQ(text(first(decode)), "attention_rows_8x1_bfloat 1 1 2 of 256");
  CHECK_EQ(decode->bytes(), 0.0);  // the operands, once each
  CHECK_EQ(decode->flops(), 2.0 * 12 * 256 * 256);
  CHECK_EQ(text(first(attention({4, 4, 1, 256, 64}, kFloat))), "attention_rows_1x1_float 1 1 4 of 256");
  CHECK_EQ(text(first(attention({4, 4, 3, 256, 200}, kFloat))), "attention_rows_4x2_float 1 1 4 of 256");
  CHECK_EQ(text(first(attention({32, 2, 1, 512, 256}))), "attention_rows_8x1_bfloat 2 1 2 of 256");
  Caps caps = cores(132);  // they read again rather than idle, where that is cheap
  caps.rereads = true;
  CHECK_EQ(text(first(attention({12, 2, 1, 256, 128}, kBFloat, caps))),
           "attention_rows_2x1_bfloat 3 1 2 of 256");
}

TEST(gpu_attention, long_caches_are_split_over_the_cores) {
  const KernelPtr decode = attention({12, 2, 1, 4096, 128});
  CHECK_EQ(decode->dispatches().size(), 2u);
  CHECK_EQ(text(first(decode)), "attention_rows_8x1_bfloat 1 16 2 of 256");
  CHECK_EQ(decode->dispatches()[1].function, "attention_join_bfloat");
  CHECK_EQ(decode->scratch_bytes(), std::size_t{12 * 16 * (128 + 2) * 4});
  CHECK_EQ(text(first(attention({12, 2, 1, 32768, 128}))), "attention_rows_8x1_bfloat 1 40 2 of 256");
  CHECK_EQ(text(first(attention({12, 2, 1, 32768, 128}, kBFloat, cores(10)))),
           "attention_rows_8x1_bfloat 1 10 2 of 256");
}

TEST(gpu_attention, many_rows_go_in_tiles) {
  const KernelPtr prefill = attention({12, 2, 512, 512, 128});
  CHECK_EQ(prefill->dispatches().size(), 1u);
  CHECK_EQ(text(first(prefill)), "attention_128_bfloat 96 1 2 of 128");
  CHECK_EQ(prefill->scratch_bytes(), std::size_t{0});
  CHECK_EQ(text(first(attention({1, 1, 60, 60, 72}, kFloat))), "attention_96_float 2 1 1 of 128");
  CHECK_EQ(text(first(attention({1, 1, 60, 60, 130}, kFloat))), "attention_256_float 4 1 1 of 64");
  CHECK_EQ(text(first(attention({1, 1, 60, 60, 300}, kBFloat))), "attention_any_bfloat 15 2 1 of 128");
  Caps without;
  without.matrices = false;
  CHECK_EQ(text(first(attention({1, 1, 60, 60, 64}, kFloat, without))),
           "attention_rows_8x1_float 8 1 1 of 256");
}

// Of caches that are updated in place, the rows that are written and nothing else.
TEST(gpu_attention, rotary_positions_are_one_launch) {
  Op op;
  op.kind = OpKind::kRope;
  op.attrs.emplace<RopeAttrs>();
  const TensorDesc x = tensor(kBFloat, {1, 12, 1, 128}), key = tensor(kBFloat, {1, 2, 1, 128});
  const TensorDesc factors = tensor(kFloat, {1, 1, 1, 128}), cache = tensor(kBFloat, {1, 2, 4096, 128});
  const TensorDesc index = tensor(DType::kInt64, {1});
  const KernelPtr kernel = make_rope(
      {{op, {x, factors, factors, key, key, cache, cache, index}, {x, cache, cache}, 1}, cores(40)});
  CHECK_EQ(kernel->dispatches().size(), 3u);
  for (const int copy : {0, 1}) {
    const Dispatch& launch = kernel->dispatches()[static_cast<std::size_t>(copy)];
    CHECK_EQ(launch.same_output, copy + 1);
    CHECK_EQ(launch.same_input, copy + 5);
  }
  CHECK_EQ(text(kernel->dispatches()[2]), "rope_bfloat 4 1 1 of 128");
  CHECK_EQ(kernel->bytes(), 2.0 * 2 * (12 + 2 + 2) * 128 + 2 * 4 * 128 + 8);
}

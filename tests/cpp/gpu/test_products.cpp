// Which kernels products, convolutions and maps are given, with which grids, packing and scratch.
#include "core/plan/layout.h"
#include "core/program/shapes.h"
#include "gpu/ops/map_parts.h"
#include "gpu/ops/ops.h"
#include "gpu/ops/product.h"
#include "metal/args.h"
#include "support/check.h"
#include "support/gpu_requests.h"

using namespace npu;
using namespace npu::gpu;

namespace {

using test::cores;

TensorDesc tensor(const Shape& shape, Shape strides = {}, DType dtype = DType::kFloat32) {
  return test::tensor(dtype, shape, std::move(strides));
}

TensorDesc image(const Shape& shape) { return tensor(shape, dense_strides(shape, Layout::kChannelsLast)); }

ExprStep load(int operand) { return {.op = ExprOp::kIn, .operand = operand, .type = 'f'}; }
ExprStep step(ExprOp op, int a, int b = -1) { return {.op = op, .args = {a, b, -1}, .type = 'f'}; }

KernelPtr matmul(std::int64_t rows, std::int64_t columns, std::int64_t depth, const Caps& caps,
                 bool k_major = true) {
  Op op;
  op.kind = OpKind::kMatmul;
  op.attrs.emplace<MatmulAttrs>();
  const TensorDesc b = tensor({depth, columns}, k_major ? Shape{1, depth} : Shape{columns, 1});
  return make_matmul({{op, {tensor({rows, depth}), b, {}}, {tensor({rows, columns})}, 1}, caps});
}

KernelPtr conv(const Shape& x, std::int64_t channels, std::int64_t window, std::int64_t groups,
               const Expr& epilogue = {}, int extras = 0) {
  ConvAttrs attrs;
  attrs.stride = attrs.dilation = attrs.input_dilation = {1, 1};
  attrs.padding_low = attrs.padding_high = {window / 2, window / 2};
  attrs.groups = groups;
  attrs.epilogue = epilogue;
  Op op;
  op.kind = OpKind::kConv;
  op.attrs = attrs;
  Request request{{op, {image(x), tensor({channels, x[1] / groups, window, window}), {}}, {}, 1}, cores(20)};
  request.inputs[1].constant = true;
  request.outputs = {image({x[0], channels, x[2], x[3]})};
  for (int e = 0; e < extras; ++e) request.inputs.push_back(request.outputs[0]);
  return make_conv(request);
}

// silu of the first half of the columns times the second.
KernelPtr gated(std::int64_t rows, std::int64_t columns, std::int64_t depth, const Caps& caps, DType dtype) {
  MatmulAttrs attrs;
  attrs.halves = true;
  attrs.epilogue = {load(0), step(ExprOp::kSilu, 0), load(1), step(ExprOp::kMul, 1, 2)};
  Op op;
  op.kind = OpKind::kMatmul;
  op.attrs = attrs;
  const TensorDesc b = tensor({depth, 2 * columns}, {1, depth}, dtype);
  return make_matmul(
      {{op, {tensor({rows, depth}, {}, dtype), b, {}}, {tensor({rows, columns}, {}, dtype)}, 1}, caps});
}

const Dispatch& first(const KernelPtr& kernel) { return kernel->dispatches().front(); }

std::int64_t groups(const Dispatch& launch) {
  return std::int64_t{launch.groups[0]} * launch.groups[1] * launch.groups[2];
}

}  // namespace

TEST(gpu_products, few_rows_stream_the_weights) {
  const KernelPtr wide = matmul(1, 16384, 4096, cores(40));
  CHECK_EQ(first(wide).function, "matmul_rows_k_major_1x4_float");
  CHECK_EQ(groups(first(wide)), 512);
  // With few columns simdgroups share the depth, so that all cores are busy.
  const KernelPtr narrow = matmul(1, 1024, 4096, cores(40));
  CHECK_EQ(first(narrow).function, "matmul_rows_k_major_1x1_float");
  CHECK(groups(first(narrow)) >= 160);
  CHECK_EQ(first(matmul(3, 512, 64, cores(4))).function, "matmul_rows_k_major_4x4_float");
  CHECK_EQ(first(matmul(8, 512, 64, cores(1), false)).function, "matmul_rows_n_major_8x4_float");
  // (a b)^T = b^T a^T
  CHECK_EQ(first(matmul(1000, 1, 64, cores(1))).function, "matmul_rows_k_major_1x4_float");
}

// The products of a decoder of 1.5 billion parameters, a row at a time.
TEST(gpu_products, weights_stream_through_all_cores) {
  constexpr std::int64_t kWeights[][2] = {
      {17920, 1536}, {1536, 8960}, {2048, 1536}, {1536, 1536}, {151936, 1536}};
  for (const auto& [columns, depth] : kWeights) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      for (const std::int64_t rows : {1, 8}) {
        Op op;
        op.kind = OpKind::kMatmul;
        op.attrs.emplace<MatmulAttrs>();
        const TensorDesc b = tensor({depth, columns}, {1, depth}, dtype);
        const KernelPtr kernel = make_matmul(
            {{op, {tensor({rows, depth}, {}, dtype), b, {}}, {tensor({rows, columns}, {}, dtype)}, 1},
             cores(40)});
        CHECK_EQ(kernel->dispatches().size(), 1u);
        CHECK(groups(first(kernel)) >= 4 * 40);
        CHECK_EQ(first(kernel).threads[0], 256u);
      }
    }
  }
}

TEST(gpu_products, gated_products_are_one_launch) {
  const KernelPtr row = gated(1, 8960, 1536, cores(40), DType::kBFloat16);
  CHECK_EQ(row->dispatches().size(), 1u);
  CHECK_EQ(first(row).function, "matmul_rows_k_major_1x4_bfloat");
  CHECK_EQ(groups(first(row)), 8960 / 16);  // two results for each simdgroup
  CHECK(first(row).prologue.empty());
  CHECK_EQ(row->flops(), 2.0 * 17920 * 1536);
  CHECK_EQ(first(gated(1, 1024, 1536, cores(40), DType::kFloat32)).function, "matmul_rows_k_major_1x2_float");
  const KernelPtr block = gated(512, 8960, 1536, cores(40), DType::kBFloat16);
  CHECK_EQ(block->dispatches().size(), 1u);
  CHECK_EQ(first(block).function, "matmul_large_k_major_bfloat");
  CHECK_EQ(first(block).groups[0], 8960u / 32);
}

TEST(gpu_products, blocks_fill_the_cores) {
  CHECK_EQ(first(matmul(1024, 1024, 512, cores(20))).function, "matmul_large_k_major_float");
  CHECK_EQ(first(matmul(1024, 1024, 512, cores(20), false)).function, "matmul_large_n_major_float");
  CHECK_EQ(first(matmul(128, 128, 256, cores(20))).function, "matmul_small_k_major_float");
  const KernelPtr split = matmul(64, 64, 8192, cores(20));
  CHECK_EQ(split->dispatches().size(), 2u);
  CHECK_EQ(split->dispatches()[1].function, "matmul_sum");
  CHECK_EQ(split->scratch_bytes(), static_cast<std::size_t>(groups(first(split)) / 4 * 64 * 64 * 4));
  CHECK_EQ(groups(first(split)), 40);
}

TEST(gpu_products, a_convolution_is_one_launch) {
  const Expr residual_relu = {load(0), load(1), step(ExprOp::kAdd, 0, 1), step(ExprOp::kRelu, 2)};
  const KernelPtr kernel = conv({1, 64, 56, 56}, 256, 1, 1, residual_relu, 1);
  CHECK_EQ(kernel->dispatches().size(), 1u);
  CHECK_EQ(first(kernel).function, "conv_large_fours_float");
  CHECK(first(kernel).prologue.empty());
  CHECK_EQ(kernel->packed_input(), 1);
  CHECK_EQ(kernel->packed_bytes(), std::size_t{64 * 256 * 4});
  CHECK_EQ(first(conv({1, 3, 224, 224}, 64, 7, 1)).function, "conv_large_any_float");
  CHECK_EQ(first(conv({1, 512, 7, 7}, 512, 3, 1)).function, "conv_tiny_fours_float");
  CHECK_EQ(first(conv({1, 96, 56, 56}, 96, 3, 96)).function, "conv_depthwise_float");
  CHECK_EQ(first(conv({1, 128, 56, 56}, 128, 3, 32)).function, "conv_direct_float");
}

TEST(gpu_products, unusual_epilogues_are_generated_or_maps_of_their_own) {
  const Expr unusual = {load(0), load(1), step(ExprOp::kSub, 0, 1)};
  const KernelPtr generated = conv({1, 64, 8, 8}, 64, 1, 1, unusual, 1);
  CHECK_EQ(generated->dispatches().size(), 1u);
  CHECK(first(generated).prologue.find("e0 - e1") != std::string::npos);
  Expr many = {load(0)};
  for (int k = 1; k <= NPU_EXTRAS + 1; ++k) {
    many.push_back(load(k));
    const int n = static_cast<int>(many.size());
    many.push_back(step(ExprOp::kAdd, n - 2, n - 1));
  }
  const KernelPtr apart = conv({1, 64, 8, 8}, 64, 1, 1, many, NPU_EXTRAS + 1);
  CHECK_EQ(apart->dispatches().size(), 2u);
  CHECK_EQ(apart->dispatches()[1].function, "map");
  CHECK_EQ(apart->scratch_bytes(), std::size_t{64 * 64 * 4});
}

TEST(gpu_products, text_of_a_map_depends_on_its_structure_alone) {
  const auto text = [](const Shape& shape) {
    Op op;
    op.attrs = MapAttrs{{load(0), load(1), step(ExprOp::kMul, 0, 1)}};
    const KernelPtr kernel = make_map({{op, {tensor(shape), tensor(shape)}, {tensor(shape)}, 1}, cores(8)});
    return first(kernel).prologue;
  };
  CHECK_EQ(text({3, 5}), text({100, 200}));
  CHECK(text({3, 5}).find("e0 * e1") != std::string::npos);
}

TEST(gpu_products, long_expressions_are_cut_where_little_crosses) {
  Expr expr = {load(0)};
  for (int k = 1; k < 60; ++k) {
    expr.push_back(load(k));
    const int n = static_cast<int>(expr.size());
    expr.push_back(step(ExprOp::kAdd, n - 2, n - 1));
  }
  const auto parts = split_expression(expr, 28);
  CHECK_EQ(parts.size(), 3u);
  for (const MapPart& part : parts) CHECK(part.operands.size() <= 28);
  CHECK_EQ(parts[1].operands.front(), -1);
}

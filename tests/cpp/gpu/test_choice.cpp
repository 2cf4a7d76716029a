// Which kernels are chosen for what, with which grids, bytes and scratch.
#include "core/plan/layout.h"
#include "core/program/shapes.h"
#include "gpu/ops/ops.h"
#include "metal/args.h"
#include "support/check.h"
#include "support/gpu_requests.h"

using namespace npu;
using namespace npu::gpu;

namespace {

const Caps kCaps{};

using test::tensor;

TensorDesc channels_last(DType dtype, const Shape& shape) {
  return tensor(dtype, shape, dense_strides(shape, Layout::kChannelsLast));
}

KernelPtr make(KernelPtr (*maker)(const Request&), OpKind kind, const Attrs& attrs,
               std::vector<TensorDesc> inputs, std::vector<TensorDesc> outputs, const Caps& caps = kCaps) {
  Op op;
  op.kind = kind;
  op.name = "chosen";
  op.attrs = attrs;
  return maker(Request{{op, std::move(inputs), std::move(outputs), 1}, caps});
}

// The launches in one line: "copy_rows_uint 4x2 256".
std::string launches(const GpuKernel& kernel) {
  std::string text;
  for (const Dispatch& d : kernel.dispatches()) {
    text += (text.empty() ? "" : ", ") + d.function + " " + std::to_string(d.groups[0]) + "x" +
            std::to_string(d.groups[1]) + "x" + std::to_string(d.groups[2]) + " of " +
            std::to_string(d.threads[0]) + "x" + std::to_string(d.threads[1]);
  }
  return text;
}

template <class Args>
Args arguments(const Dispatch& launch) {
  Args args;
  std::memcpy(&args, launch.args.data(), sizeof args);
  return args;
}

constexpr DType kHalf = DType::kFloat16, kFloat = DType::kFloat32, kLong = DType::kInt64;

KernelPtr copy(const TensorDesc& y, const TensorDesc& x) {
  return make(make_copy, OpKind::kCopy, CopyAttrs{}, {x}, {y});
}

}  // namespace

TEST(gpu_choice, copies_move_words_of_sixteen_bytes) {
  const auto dense = copy(tensor(kHalf, {64, 100}), tensor(kHalf, {64, 100}));
  CHECK_EQ(launches(*dense), "copy_rows_uint 4x1x1 of 256x1");  // 3200 words, four at once
  const auto odd = copy(tensor(kHalf, {3, 5}), tensor(kHalf, {3, 5}));
  CHECK_EQ(launches(*odd), "copy_rows_ushort 1x1x1 of 4x64");
  TensorDesc unaligned = tensor(kHalf, {64, 100});
  unaligned.alignment = 2;
  CHECK_EQ(launches(*copy(tensor(kHalf, {64, 100}), unaligned)), "copy_rows_ushort 7x1x1 of 256x1");
  CHECK_EQ(launches(*copy(tensor(kLong, {64}), tensor(kLong, {64}))), "copy_rows_uint 1x1x1 of 32x8");
}

TEST(gpu_choice, transposed_copies_go_through_tiles) {
  const auto turned = copy(tensor(kFloat, {2, 96, 40}), tensor(kFloat, {2, 96, 40}, {3840, 1, 96}));
  CHECK_EQ(launches(*turned), "copy_transposed_uint 2x3x2 of 32x8");
  CHECK(turned->dispatches()[0].same_output < 0);  // it is none where both lie at one address
}

TEST(gpu_choice, copies_of_huge_tensors_come_in_parts) {
  const Shape huge{3, std::int64_t{1} << 30};
  const auto kernel = copy(tensor(kFloat, huge), tensor(kFloat, huge));
  CHECK_EQ(kernel->dispatches().size(), 3u);
  const BufferUse& last = kernel->dispatches()[2].buffers[1];
  CHECK_EQ(last.offset + last.high, std::int64_t{12} << 30);
}

TEST(gpu_choice, empty_tensors_launch_nothing) {
  CHECK(copy(tensor(kFloat, {0, 3}), tensor(kFloat, {0, 3}))->dispatches().empty());
  const auto softmax = make(make_softmax, OpKind::kSoftmax, SoftmaxAttrs{1, false}, {tensor(kFloat, {0, 3})},
                            {tensor(kFloat, {0, 3})});
  CHECK(softmax->dispatches().empty());
}

// One row of a cache that is updated in place costs that row: the copy before is left out of the run.
TEST(gpu_choice, cache_updates_touch_a_row) {
  const TensorDesc cache = tensor(kHalf, {1, 8, 1024, 128}), row = tensor(kHalf, {1, 8, 1, 128});
  const TensorDesc index = tensor(kLong, {1, 8, 1, 128}, {0, 0, 1, 0});
  const ScatterAttrs attrs{ScatterAttrs::Kind::kSet, {2}, {0, 1, -1, 3}, false};
  const auto kernel = make(make_scatter, OpKind::kScatter, attrs, {cache, row, index}, {cache});
  CHECK_EQ(kernel->dispatches().size(), 2u);
  CHECK_EQ(kernel->dispatches()[0].same_output, 0);
  CHECK_EQ(kernel->dispatches()[0].same_input, 0);
  CHECK_EQ(kernel->dispatches()[1].function, "scatter_set_uint");
  CHECK_EQ(kernel->dispatches()[1].groups[0] * kernel->dispatches()[1].groups[1],
           1u);  // 8 rows of 16 threads
  CHECK_EQ(kernel->bytes(), 2.0 * 8 * 128 * 2);
}

TEST(gpu_choice, many_updates_are_sorted_few_are_not) {
  const TensorDesc x = tensor(kFloat, {1000}), few = tensor(kFloat, {100}), many = tensor(kFloat, {5000});
  const ScatterAttrs attrs{ScatterAttrs::Kind::kAdd, {0}, {-1}, false};
  const auto short_one = make(make_scatter, OpKind::kScatter, attrs, {x, few, tensor(kLong, {100})}, {x});
  CHECK_EQ(short_one->dispatches().size(), 2u);
  const auto long_one = make(make_scatter, OpKind::kScatter, attrs, {x, many, tensor(kLong, {5000})}, {x});
  // A copy, the items, blocks of 1024, three merges, the updates.
  CHECK_EQ(long_one->dispatches().size(), 7u);
  CHECK_EQ(long_one->scratch_bytes(), 2u * 5000 * 16 / 256 * 256 + 256 * (2u * 5000 * 16 % 256 != 0));
}

TEST(gpu_choice, embeddings_are_read_in_words) {
  const TensorDesc table = tensor(DType::kBFloat16, {151936, 1536});
  const TensorDesc index = tensor(kLong, {1, 7, 1536}, {7, 1, 0}),
                   out = tensor(DType::kBFloat16, {1, 7, 1536});
  const auto kernel =
      make(make_gather, OpKind::kGather, GatherAttrs{{0}, {-1, 2}, true}, {table, index}, {out});
  CHECK_EQ(launches(*kernel), "gather_uint 1x7x1 of 256x1");  // 768 words of a row, four at once
  CHECK_EQ(arguments<GatherArgs>(kernel->dispatches()[0]).axes[0].step, 768);
}

TEST(gpu_choice, rows_are_shared_by_what_they_need) {
  const auto norm = [](const Shape& shape) {
    const TensorDesc x = tensor(kHalf, shape), w = tensor(kFloat, {shape.back()});
    return launches(
        *make(make_norm, OpKind::kNorm, NormAttrs{NormAttrs::Kind::kRms, 1, 1, 1e-6}, {x, w}, {x}));
  };
  CHECK_EQ(norm({1, 1536}), "norm_dense_half 1x1x1 of 192x1");
  CHECK_EQ(norm({1, 4096}), "norm_dense_half 1x1x1 of 256x1");
  CHECK_EQ(norm({1000, 512}), "norm_dense_half 250x1x1 of 128x1");
  CHECK_EQ(norm({3, 16384}), "norm_dense_half 3x1x1 of 1024x1");
  CHECK_EQ(norm({3, 16385}), "norm_any_half 3x1x1 of 1024x1");
  const auto softmax = [](const Shape& shape, std::int64_t axis) {
    const TensorDesc x = tensor(kFloat, shape);
    return launches(*make(make_softmax, OpKind::kSoftmax, SoftmaxAttrs{axis, false}, {x}, {x}));
  };
  CHECK_EQ(softmax({64, 1000}, 1), "softmax_dense_float 64x1x1 of 256x1");
  CHECK_EQ(softmax({1, 151936}, 1), "softmax_peaks_float 1x32x1 of 256x1, softmax_any_float 1x32x1 of 256x1");
  CHECK_EQ(softmax({2, 21, 64, 64}, 1), "softmax_any_float 128x1x1 of 64x1");  // a thread for each pixel
}

TEST(gpu_choice, group_norms_of_large_images_go_by_columns) {
  const TensorDesc x = channels_last(kHalf, {1, 320, 64, 64}), w = tensor(kHalf, {320});
  const NormAttrs attrs{NormAttrs::Kind::kGroup, 1, 32, 1e-5};
  const auto kernel = make(make_norm, OpKind::kNorm, attrs, {x, w, w}, {x});
  CHECK_EQ(kernel->dispatches().size(), 3u);
  const auto args = arguments<NormColumnsArgs>(kernel->dispatches()[0]);
  CHECK(args.part * args.parts >= 4096 && args.part * (args.parts - 1) < 4096);
  CHECK(kernel->scratch_bytes() >= 16u * 320 * static_cast<unsigned>(args.parts));
}

TEST(gpu_choice, reductions_follow_memory) {
  const auto reduce = [](ReduceAttrs::Kind kind, const TensorDesc& x, const std::vector<std::int64_t>& axes) {
    Shape shape = x.shape;
    for (const auto axis : axes) shape[static_cast<std::size_t>(axis)] = 1;
    const bool position = kind == ReduceAttrs::Kind::kArgmax;
    return launches(*make(make_reduce, OpKind::kReduce, ReduceAttrs{kind, axes, 0}, {x},
                          {tensor(position ? kLong : x.dtype, shape)}));
  };
  using Kind = ReduceAttrs::Kind;
  CHECK_EQ(reduce(Kind::kSum, tensor(kFloat, {1000, 256}), {1}), "reduce_lanes_total_float 250x1x1 of 128x1");
  CHECK_EQ(reduce(Kind::kArgmax, tensor(kFloat, {1, 151936}), {1}),
           "reduce_group_position_float 1x32x1 of 256x1, reduce_parts_position_float 1x1x1 of 128x1");
  CHECK_EQ(reduce(Kind::kMean, channels_last(kHalf, {8, 2048, 7, 7}), {2, 3}),
           "reduce_columns_total_half 512x1x1 of 32x1");
  CHECK_EQ(reduce(Kind::kMean, tensor(kHalf, {8, 2048, 7, 7}), {2, 3}),
           "reduce_lanes_total_half 4096x1x1 of 128x1");
}

TEST(gpu_choice, global_pooling_is_a_reduction) {
  const auto kernel =
      make(make_adaptive_pool, OpKind::kAdaptivePool, AdaptivePoolAttrs{AdaptivePoolAttrs::Kind::kAvg},
           {channels_last(kHalf, {1, 2048, 7, 7})}, {channels_last(kHalf, {1, 2048, 1, 1})});
  CHECK_EQ(kernel->dispatches()[0].library, "reduce");
}

TEST(gpu_choice, channels_are_pooled_four_at_a_time) {
  using Kind = PoolAttrs::Kind;
  const PoolAttrs attrs{Kind::kMax, {3, 3}, {2, 2}, {1, 1}, {1, 1}, true, 0};
  const auto last = make(make_pool, OpKind::kPool, attrs, {channels_last(kHalf, {1, 64, 112, 112})},
                         {channels_last(kHalf, {1, 64, 56, 56})});
  CHECK_EQ(launches(*last), "pool_four_half 1x196x1 of 16x16");
  const auto first = make(make_pool, OpKind::kPool, attrs, {tensor(kHalf, {1, 64, 112, 112})},
                          {tensor(kHalf, {1, 64, 56, 56})});
  CHECK_EQ(launches(*first), "pool_half 1x896x1 of 64x4");
}

TEST(gpu_choice, sorts_in_one_block_by_runs_or_by_selection) {
  const auto count = [](std::int64_t n, std::int64_t k) {
    const TensorDesc x = tensor(kFloat, {1, n}), values = tensor(kFloat, {1, k}),
                     indices = tensor(kLong, {1, k});
    return make(make_topk, OpKind::kTopk, TopkAttrs{1, true}, {x}, {values, indices})->dispatches().size();
  };
  CHECK_EQ(count(2048, 2048), 1u);
  CHECK_EQ(count(151936, 50), 3u);    // 75 blocks, 2 blocks, 1
  CHECK_EQ(count(10000, 10000), 5u);  // blocks, three merges, results
}

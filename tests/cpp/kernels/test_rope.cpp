// Rotary positions and cache updates on the software shader machine, against their definition in double.
#include "metal/args.h"
#include "support/gpu_against_cpu.h"

using namespace npu;
using namespace npu::test;

namespace {

struct Problem {
  std::int64_t batch = 2, heads = 3, groups = 2, length = 3, width = 8, rotated = 8, value_width = 5;
  DType dtype = DType::kFloat32, cos = DType::kFloat32, sin = DType::kFloat32;
  bool interleaved = false, key = true, value = true;
  bool in_place = false;
  std::vector<std::int64_t> index{};  // empty: no caches
  std::int64_t capacity = 6;
  Layout layout = Layout::kDense, out = Layout::kDense;
  bool shared_cos = false;  // one row of factors for all of a batch
};

double rotated(const Problem& p, const Tensor& x, const Tensor& cos, const Tensor& sin, const Shape& at) {
  const std::int64_t i = at[3], half = p.rotated / 2;
  if (i >= p.rotated) return x.get(at);
  const bool first = p.interleaved ? i % 2 == 0 : i < half;
  Shape other = at;
  other[3] = p.interleaved ? (first ? i + 1 : i - 1) : (first ? i + half : i - half);
  const Shape factor = {at[0], 0, at[2], i};
  return x.get(at) * cos.get(factor) + (first ? -1 : 1) * x.get(other) * sin.get(factor);
}

// The row that goes to row `target` of a cache, or -1.
std::int64_t source(const Problem& p, std::int64_t target) {
  for (std::size_t s = p.index.size(); s-- > 0;) {
    if (p.index[s] == target) return static_cast<std::int64_t>(s);
  }
  return -1;
}

// The part of a larger tensor that is left when its first half along the last dimension is dropped.
Tensor second_half(Tensor t) {
  t.shape[3] /= 2;
  t.offset += t.shape[3] * t.strides[3];
  return t;
}

GpuRun check(const Problem& p, int line) {
  const Shape x_shape = {p.batch, p.heads, p.length, p.width},
              key_shape = {p.batch, p.groups, p.length, p.width};
  const Shape value_shape = {p.batch, p.groups, p.length, p.value_width};
  const Shape factor_shape = {p.shared_cos ? 1 : p.batch, 1, p.length, p.rotated};
  Tensor x = random(p.dtype, x_shape, p.layout, 1), key = random(p.dtype, key_shape, p.layout, 2);
  Tensor value = random(p.dtype, value_shape, p.layout, 3);
  const Shape all = {p.batch, 1, p.length, p.rotated};
  Tensor cos = random(p.cos, factor_shape, p.layout, 4).expanded(all);
  Tensor sin = random(p.sin, factor_shape, Layout::kDense, 5).expanded(all);
  Tensor index(DType::kInt64, {p.length});
  for (std::size_t s = 0; s < p.index.size(); ++s)
    index.set({static_cast<std::int64_t>(s)}, static_cast<double>(p.index[s]));
  const bool cached = !p.index.empty();
  Shape key_out_shape = key_shape, value_out_shape = value_shape;
  if (cached) key_out_shape[2] = value_out_shape[2] = p.capacity;
  Tensor keys = random(p.dtype, key_out_shape, p.out, 6), values = random(p.dtype, value_out_shape, p.out, 7);
  const Tensor old_keys = keys, old_values = values;
  Tensor out(p.dtype, x_shape, p.out), key_out(p.dtype, key_out_shape, p.out),
      value_out(p.dtype, value_out_shape, p.out);
  Tensor *const new_keys = p.in_place ? &keys : &key_out, *const new_values =
                                                              p.in_place ? &values : &value_out;
  const bool values_too = p.value && cached;
  GpuRun run;
  run_gpu(gpu::make_rope, OpKind::kRope, RopeAttrs{p.interleaved},
          {&x, &cos, &sin, p.key ? &key : nullptr, values_too ? &value : nullptr, cached ? &keys : nullptr,
           values_too ? &values : nullptr, cached ? &index : nullptr},
          {&out, p.key ? new_keys : nullptr, values_too ? new_values : nullptr}, run);
  const auto turned = [&](const Shape& at) { return rotated(p, x, cos, sin, at); };
  const auto want_key = [&](Shape at) {
    const std::int64_t s = cached ? source(p, at[2]) : at[2];
    if (s < 0) return old_keys.get(at);
    at[2] = s;
    return rotated(p, key, cos, sin, at);
  };
  const auto want_value = [&](Shape at) {
    const std::int64_t s = source(p, at[2]);
    if (s < 0) return old_values.get(at);
    at[2] = s;
    return value.get(at);
  };
  check_tensor(out, turned, __FILE__, line, 2);
  if (p.key) check_tensor(*new_keys, want_key, __FILE__, line, 2);
  if (values_too) check_tensor(*new_values, want_value, __FILE__, line, 0);
  return run;
}
#define CHECK_ROPE(...) check(Problem{__VA_ARGS__}, __LINE__)

}  // namespace

TEST(kernels_rope, rotates_queries_alone) {
  for (const DType dtype : kFloatTypes) {
    for (const bool interleaved : {false, true}) {
      CHECK_ROPE(.dtype = dtype, .cos = dtype, .sin = dtype, .interleaved = interleaved, .key = false);
      CHECK_ROPE(.width = 9, .rotated = 6, .dtype = dtype, .cos = dtype, .interleaved = interleaved,
                 .key = false);
      CHECK_ROPE(.width = 7, .rotated = 0, .dtype = dtype, .sin = dtype, .interleaved = interleaved,
                 .key = false);
    }
  }
}

TEST(kernels_rope, few_rows) {
  for (const std::int64_t heads : {1, 2, 3, 4, 5}) {
    CHECK_ROPE(.batch = 1, .heads = heads, .length = 1, .width = 70, .rotated = 70, .key = false);
    CHECK_ROPE(.batch = 1, .heads = 1, .groups = 1, .length = 1, .in_place = true, .index = {heads});
  }
}

TEST(kernels_rope, rotates_keys_too) {
  for (const DType dtype : kFloatTypes) {
    for (const bool interleaved : {false, true}) {
      const GpuRun run = CHECK_ROPE(.width = 80, .rotated = 76, .dtype = dtype, .interleaved = interleaved);
      CHECK_EQ(run.launches, 1u);
      CHECK_ROPE(.heads = 1, .groups = 4, .length = 1, .width = 130, .rotated = 130, .dtype = dtype,
                 .interleaved = interleaved, .shared_cos = true);
    }
  }
}

TEST(kernels_rope, writes_caches) {
  for (const DType dtype : kFloatTypes) {
    for (const bool in_place : {false, true}) {
      for (const bool value : {false, true}) {
        CHECK_ROPE(.dtype = dtype, .value = value, .in_place = in_place, .index = {4, 0, 3});
        CHECK_ROPE(.length = 1, .width = 64, .rotated = 64, .value_width = 70, .dtype = dtype, .cos = dtype,
                   .interleaved = true, .value = value, .in_place = in_place, .index = {5});
      }
    }
  }
}

// As an index that is used twice: the later row stays.
TEST(kernels_rope, later_rows_win) {
  CHECK_ROPE(.length = 4, .index = {2, 5, 2, 0});
  std::vector<std::int64_t> index(70);
  for (std::size_t i = 0; i < index.size(); ++i) index[i] = static_cast<std::int64_t>(i * 7 % 41);
  CHECK_ROPE(.batch = 1, .groups = 1, .length = 70, .in_place = true, .index = index, .capacity = 45);
}

TEST(kernels_rope, any_strides) {
  for (const DType dtype : kFloatTypes) {
    for (const Layout layout : kReadLayouts) {
      for (const Layout out : kReadLayouts) {
        CHECK_ROPE(.rotated = 6, .dtype = dtype, .index = {1, 5, 0}, .layout = layout, .out = out);
        CHECK_ROPE(.dtype = dtype, .in_place = true, .index = {3, 1, 2}, .layout = layout, .out = out);
      }
    }
  }
}

TEST(kernels_rope, parts_of_larger_tensors) {
  const Shape shape = {2, 3, 4, 16};
  Tensor x = second_half(random(DType::kFloat16, shape, Layout::kDense, 1));
  Tensor cos = second_half(random(DType::kFloat32, {2, 1, 4, 16}, Layout::kDense, 2));
  Tensor sin = random(DType::kFloat32, {2, 1, 4, 8}, Layout::kDense, 3), out(DType::kFloat16, x.shape);
  GpuRun run;
  run_gpu(gpu::make_rope, OpKind::kRope, RopeAttrs{}, {&x, &cos, &sin}, {&out}, run);
  const Problem p{.width = 8, .rotated = 8};
  CHECK_TENSOR(out, [&](const Shape& at) { return rotated(p, x, cos, sin, at); });
}

TEST(kernels_rope, nothing_to_do) {
  CHECK_ROPE(.length = 0);
  CHECK_ROPE(.batch = 0);
  CHECK_ROPE(.heads = 0, .index = {1, 2, 4});
  CHECK_ROPE(.width = 0, .rotated = 0, .index = {1, 2, 4});
}

TEST(kernels_rope, indices_out_of_range_are_reported) {
  for (const std::int64_t outside : {-1, 6, 1000}) {
    Tensor x = random(DType::kFloat32, {1, 2, 2, 4}), cos = random(DType::kFloat32, {1, 1, 2, 4}), sin = cos;
    Tensor cache = random(DType::kFloat32, {1, 2, 6, 4}), index(DType::kInt64, {2}), out = x;
    const Tensor before = cache;
    index.set({0}, 3);
    index.set({1}, static_cast<double>(outside));
    GpuRun run;
    run_gpu(gpu::make_rope, OpKind::kRope, RopeAttrs{},
            {&x, &cos, &sin, &x, nullptr, &cache, nullptr, &index}, {&out, &cache}, run);
    gpu::Status status;
    std::memcpy(&status, run.status.data(), sizeof status);
    CHECK_EQ(status.dimension, 3);
    CHECK_EQ(status.index, outside);
    const Problem p{.width = 4, .rotated = 4};
    CHECK_TENSOR(cache, [&](Shape at) {
      if (at[2] != 3) return before.get(at);
      at[2] = 0;
      return rotated(p, x, cos, sin, at);
    });
  }
}

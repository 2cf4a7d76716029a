// Attention on tensors of a test, by the kernels of a GPU and by its definition in double.
#pragma once

#include "support/gpu_against_cpu.h"

namespace npu::test {

enum class MaskKind { kNone, kBool, kFloat, kOwn };  // the last: of the dtype of q

// Which columns row `row` of `head` sees: addends, -inf for what is not seen.
using Addend = std::function<double(std::int64_t batch, std::int64_t head, std::int64_t row, std::int64_t t)>;

struct AttentionProblem {
  std::int64_t batch = 2, heads = 6, groups = 2, rows = 3, length = 40, width = 16, value_width = 16;
  DType dtype = DType::kFloat32;
  Layout q = Layout::kDense, k = Layout::kDense, v = Layout::kDense, out = Layout::kDense;
  MaskKind mask = MaskKind::kNone;
  Addend addend = {};
  bool mask_per_head = false, causal = false, nan = false;
  double scale = 0;  // 0: so that scores are of a few units
  gpu::Caps caps{};
  double tolerance = 4;
  // Values that no row sees are taken from a tensor of NaN: whoever reads them shows.
  std::function<bool(std::int64_t t)> poisoned = {};
  bool int8 = false;          // keys and values, with scales
  std::int64_t readable = 0;  // columns of keys and values of one head, from which on nothing may be read
};

inline Tensor mask_of(const AttentionProblem& p) {
  const DType dtype = p.mask == MaskKind::kBool    ? DType::kBool
                      : p.mask == MaskKind::kFloat ? DType::kFloat32
                                                   : p.dtype;
  Tensor mask(dtype, {p.batch, p.mask_per_head ? p.heads : 1, p.rows, p.length});
  for_each(mask.shape, [&](const Shape& at) {
    const double addend = p.addend(at[0], at[1], at[2], at[3]);
    mask.set(at, p.mask == MaskKind::kBool ? (addend == 0 ? 1 : 0) : addend);
  });
  return mask.expanded({p.batch, p.heads, p.rows, p.length});
}

// One row of the result, in double but for the sums of scores and addends, which are floats.
inline std::vector<double> attended(const AttentionProblem& p, const Tensor& q, const Tensor& k,
                                    const Tensor& v, const Tensor* mask, std::int64_t n, std::int64_t h,
                                    std::int64_t s) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::int64_t g = h / (p.heads / p.groups);
  std::vector<double> scores, row(static_cast<std::size_t>(p.value_width));
  double most = -kInfinity, total = 0;
  for (std::int64_t t = 0; t < p.length; ++t) {
    double score = 0;
    for (std::int64_t d = 0; d < p.width; ++d) score += q.get({n, h, s, d}) * k.get({n, g, t, d});
    score *= p.scale;
    if (mask != nullptr && mask->dtype == DType::kBool) {
      if (mask->get({n, h, s, t}) == 0) score = -kInfinity;
    } else if (mask != nullptr) {
      const double addend = mask->get({n, h, s, t});
      score = addend == -kInfinity
                  ? addend
                  : static_cast<double>(static_cast<float>(score) + static_cast<float>(addend));
    }
    if (p.causal && t > s) score = -kInfinity;
    if (p.poisoned && p.poisoned(t)) score = -kInfinity;
    scores.push_back(score);
    most = std::max(most, score);
  }
  if (most == -kInfinity) {
    std::fill(row.begin(), row.end(), p.nan ? std::nan("") : 0.0);
    return row;
  }
  for (std::int64_t t = 0; t < p.length; ++t) {
    const double weight = std::exp(scores[static_cast<std::size_t>(t)] - most);
    total += weight;
    if (weight == 0) continue;
    for (std::int64_t e = 0; e < p.value_width; ++e)
      row[static_cast<std::size_t>(e)] += weight * v.get({n, g, t, e});
  }
  for (double& x : row) x /= total;
  return row;
}

// Makes rows int8: what they stand for is a float32 tensor of the same shape.
inline Tensor quantized(const Tensor& rows, Layout layout, Tensor& integers, Tensor& scales) {
  integers = Tensor(DType::kInt8, rows.shape, layout);
  scales = Tensor(DType::kFloat32, {rows.shape[0], rows.shape[1], rows.shape[2]}, layout);
  Tensor numbers(DType::kFloat32, rows.shape);
  for_each(scales.shape, [&](const Shape& i) {
    scales.set(i, i[2] % 17 == 3 ? 0 : 0.002 + 0.0001 * static_cast<double>(i[2] % 50));
  });
  for_each(rows.shape, [&](const Shape& i) {
    const double scale = scales.get({i[0], i[1], i[2]}), x = rows.get(i);
    integers.set(i, std::isnan(x) ? 77 : std::clamp(std::round(100 * x), -127.0, 127.0));
    numbers.set(i, integers.get(i) * scale);
    if (std::isnan(x)) scales.set({i[0], i[1], i[2]}, x);
  });
  return numbers;
}

inline GpuRun check_attention(AttentionProblem p, int line) {
  if (p.scale == 0) p.scale = 0.9 / std::sqrt(static_cast<double>(std::max<std::int64_t>(1, p.width)));
  Tensor q = random(p.dtype, {p.batch, p.heads, p.rows, p.width}, p.q, 1);
  Tensor k = random(p.dtype, {p.batch, p.groups, p.length, p.width}, p.k, 2);
  Tensor v = random(p.dtype, {p.batch, p.groups, p.length, p.value_width}, p.v, 3);
  if (p.poisoned) {
    for (Tensor* t : {&k, &v})
      for_each(t->shape, [&](const Shape& at) {
        if (p.poisoned(at[2])) t->set(at, std::nan(""));
      });
  }
  Tensor out(p.dtype, {p.batch, p.heads, p.rows, p.value_width}, p.out), mask;
  if (p.mask != MaskKind::kNone) mask = mask_of(p);
  Tensor* const masked = p.mask == MaskKind::kNone ? nullptr : &mask;
  using MaskedRows = AttentionAttrs::MaskedRows;
  const AttentionAttrs attrs{p.scale, p.causal, p.nan ? MaskedRows::kNan : MaskedRows::kZero};
  GpuRun run{.caps = p.caps};
  if (p.readable > 0) {
    run.readable[1] = static_cast<std::size_t>(p.readable * p.width) * size_of(p.dtype);
    run.readable[2] = static_cast<std::size_t>(p.readable * p.value_width) * size_of(p.dtype);
  }
  Tensor keys, values, key_scales, value_scales;
  if (p.int8) {
    k = quantized(k, p.k, keys, key_scales);
    v = quantized(v, p.v, values, value_scales);
    run_gpu(gpu::make_attention, OpKind::kAttention, attrs,
            {&q, &keys, &values, masked, &key_scales, &value_scales}, {&out}, run);
  } else {
    run_gpu(gpu::make_attention, OpKind::kAttention, attrs, {&q, &k, &v, masked}, {&out}, run);
  }
  std::vector<double> row;
  const auto want = [&](const Shape& at) {
    if (at[3] == 0) row = attended(p, q, k, v, masked, at[0], at[1], at[2]);
    return row[static_cast<std::size_t>(at[3])];
  };
  check_tensor(out, want, __FILE__, line, p.tolerance);
  return run;
}
#define CHECK_ATTENTION(...) check_attention(AttentionProblem{__VA_ARGS__}, __LINE__)

}  // namespace npu::test

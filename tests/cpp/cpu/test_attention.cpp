// Attention, rotary embeddings and products of two halves on the CPU, against their definitions.
#include <algorithm>
#include <random>

#include "support/cpu_cases.h"

using namespace npu;
using namespace npu::test;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr DType kFloats[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};

Tensor filled(DType dtype, const Shape& shape, unsigned seed, Layout layout = Layout::kDense) {
  Tensor t(dtype, shape, layout);
  std::mt19937 random(seed);
  std::normal_distribution<double> values;
  for_each(shape, [&](const Shape& i) { t.set(i, values(random)); });
  return t;
}

// [N, H, S, D] as a view of memory that lies as [N, S, H, D].
Tensor heads_inside(DType dtype, const Shape& shape, unsigned seed) {
  Tensor t = filled(dtype, {shape[0], shape[2], shape[1], shape[3]}, seed);
  std::swap(t.shape[1], t.shape[2]);
  std::swap(t.strides[1], t.strides[2]);
  return t;
}

struct AttentionCase {
  std::int64_t n = 1, h = 1, g = 1, s = 1, t = 1, d = 8, e = 8;
  AttentionAttrs attrs = {.scale = 0.3};
  int threads = 1;
};

double score(const AttentionCase& c, Tensor& q, Tensor& k, Tensor* mask, const Shape& at, std::int64_t t) {
  double sum = 0;
  for (std::int64_t i = 0; i < c.d; ++i)
    sum += q.get({at[0], at[1], at[2], i}) * k.get({at[0], at[1] / (c.h / c.g), t, i});
  sum *= c.attrs.scale;
  if (c.attrs.causal && t > at[2]) return -kInfinity;
  if (mask == nullptr) return sum;
  const double m = mask->get({at[0], at[1], at[2], t});
  if (mask->dtype == DType::kBool) return m != 0 ? sum : -kInfinity;
  return static_cast<double>(static_cast<float>(sum + m));
}

// One row of the result, by its definition.
std::vector<double> attended(const AttentionCase& c, Tensor& q, Tensor& k, Tensor& v, Tensor* mask,
                             const Shape& at) {
  std::vector<double> weights, row(static_cast<std::size_t>(c.e), 0.0);
  double peak = -kInfinity, total = 0;
  for (std::int64_t t = 0; t < c.t; ++t) {
    weights.push_back(score(c, q, k, mask, at, t));
    peak = std::max(peak, weights.back());
  }
  if (peak == -kInfinity) {
    if (c.attrs.masked_rows == AttentionAttrs::MaskedRows::kNan && c.t > 0)
      std::fill(row.begin(), row.end(), std::nan(""));
    return row;
  }
  for (double& w : weights) total += w = std::exp(w - peak);
  for (std::int64_t t = 0; t < c.t; ++t) {
    for (std::int64_t e = 0; e < c.e; ++e) {
      row[static_cast<std::size_t>(e)] +=
          weights[static_cast<std::size_t>(t)] / total * v.get({at[0], at[1] / (c.h / c.g), t, e});
    }
  }
  return row;
}

void check_result(const AttentionCase& c, Tensor& q, Tensor& k, Tensor& v, Tensor* mask, Tensor& out,
                  double tolerance = 4) {
  Shape row;
  std::vector<double> expected;
  const auto element = [&](const Shape& at) {
    if (Shape now(at.begin(), at.begin() + 3); now != row) {
      row = std::move(now);
      expected = attended(c, q, k, v, mask, at);
    }
    return expected[static_cast<std::size_t>(at[3])];
  };
  CHECK_TENSOR(out, element, tolerance);
}

void check_attention(const AttentionCase& c, Tensor& q, Tensor& k, Tensor& v, Tensor* mask, Tensor& out,
                     double tolerance = 4) {
  run_op(cpu::make_attention, OpKind::kAttention, c.attrs, {&q, &k, &v, mask}, {&out}, c.threads);
  check_result(c, q, k, v, mask, out, tolerance);
}

void check_plain(const AttentionCase& c, DType dtype, bool permuted, Tensor* mask = nullptr) {
  const Shape q_shape = {c.n, c.h, c.s, c.d}, k_shape = {c.n, c.g, c.t, c.d}, v_shape = {c.n, c.g, c.t, c.e};
  Tensor q = permuted ? heads_inside(dtype, q_shape, 1) : filled(dtype, q_shape, 1);
  Tensor k = permuted ? heads_inside(dtype, k_shape, 2) : filled(dtype, k_shape, 2);
  Tensor v = permuted ? heads_inside(dtype, v_shape, 3) : filled(dtype, v_shape, 3);
  const Shape out_shape = {c.n, c.h, c.s, c.e};
  Tensor out = permuted ? heads_inside(dtype, out_shape, 4) : filled(dtype, out_shape, 4);
  check_attention(c, q, k, v, mask, out);
}

// Keys or values of int8 with a scale for each row, and the numbers that they stand for.
struct Int8Rows {
  Tensor integers, scales, numbers;

  Int8Rows(const Shape& shape, Layout layout, unsigned seed)
      : integers(DType::kInt8, shape, layout),
        scales(DType::kFloat32, {shape[0], shape[1], shape[2]}, layout),
        numbers(DType::kFloat32, shape) {
    std::mt19937 random(seed);
    std::uniform_int_distribution<int> values(-127, 127);
    std::uniform_real_distribution<double> factors(0.001, 0.02);
    for_each(scales.shape, [&](const Shape& i) { scales.set(i, i[2] % 17 == 3 ? 0 : factors(random)); });
    for_each(shape, [&](const Shape& i) {
      integers.set(i, values(random));
      numbers.set(i, integers.get(i) * scales.get({i[0], i[1], i[2]}));
    });
  }
};

void check_int8(const AttentionCase& c, DType dtype, Layout layout, Tensor* mask = nullptr) {
  Tensor q = filled(dtype, {c.n, c.h, c.s, c.d}, 1), out(dtype, {c.n, c.h, c.s, c.e});
  Int8Rows k({c.n, c.g, c.t, c.d}, layout, 2), v({c.n, c.g, c.t, c.e}, layout, 3);
  run_op(cpu::make_attention, OpKind::kAttention, c.attrs,
         {&q, &k.integers, &v.integers, mask, &k.scales, &v.scales}, {&out}, c.threads);
  check_result(c, q, k.numbers, v.numbers, mask, out);
}

Tensor random_mask(DType dtype, const Shape& shape, unsigned seed, double hidden = 0.4) {
  Tensor mask(dtype, shape);
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> values;
  for_each(shape, [&](const Shape& i) {
    const bool seen = values(random) >= hidden;
    mask.set(i, dtype == DType::kBool ? seen : seen ? values(random) : -kInfinity);
  });
  return mask;
}

}  // namespace

TEST(cpu_attention, matches_its_definition) {
  const AttentionCase cases[] = {
      {.n = 2, .h = 4, .g = 2, .s = 1, .t = 300, .d = 64, .e = 64},
      {.n = 1, .h = 6, .g = 1, .s = 1, .t = 1111, .d = 40, .e = 32},
      {.n = 1, .h = 3, .g = 3, .s = 37, .t = 129, .d = 33, .e = 17},
      {.n = 2, .h = 2, .g = 1, .s = 130, .t = 5, .d = 1, .e = 40},
      {.n = 1, .h = 20, .g = 1, .s = 3, .t = 70, .d = 16, .e = 3},
  };
  on_every_isa([&] {
    for (const DType dtype : kFloats) {
      for (AttentionCase c : cases) {
        for (const int threads : {1, 5}) {
          c.threads = threads;
          check_plain(c, dtype, threads == 1);
        }
      }
    }
  });
}

TEST(cpu_attention, causal) {
  const AttentionAttrs attrs = {.scale = 0.2, .causal = true};
  on_every_isa([&] {
    for (const DType dtype : kFloats) {
      for (const std::int64_t t : {1, 100, 128, 190}) {
        check_plain(
            {.n = 1, .h = 4, .g = 2, .s = 150, .t = t, .d = 16, .e = 18, .attrs = attrs, .threads = 2}, dtype,
            true);
      }
      check_plain({.n = 2, .h = 3, .g = 1, .s = 1, .t = 400, .d = 32, .e = 32, .attrs = attrs, .threads = 2},
                  dtype, true);
    }
  });
}

// Few rows, which read the integers, and many, for which they are dequantised.
TEST(cpu_attention, int8_keys_and_values) {
  const AttentionCase cases[] = {
      {.n = 2, .h = 4, .g = 2, .s = 1, .t = 300, .d = 64, .e = 64},
      {.n = 1, .h = 6, .g = 1, .s = 1, .t = 140, .d = 37, .e = 21, .threads = 3},
      {.n = 1, .h = 3, .g = 1, .s = 13, .t = 129, .d = 33, .e = 17, .threads = 2},
      {.n = 1, .h = 2, .g = 1, .s = 20, .t = 70, .d = 600, .e = 530, .attrs = {.scale = 0.005}},
      {.n = 1, .h = 20, .g = 1, .s = 3, .t = 70, .d = 16, .e = 3},
      {.n = 1, .h = 2, .g = 2, .s = 3, .t = 0, .d = 16, .e = 3},
      {.n = 1, .h = 1, .g = 1, .s = 40, .t = 40, .d = 8, .e = 8, .attrs = {.scale = 0.3, .causal = true}},
  };
  on_every_isa([&] {
    for (const DType dtype : kFloats) {
      for (const AttentionCase& c : cases) {
        for (const Layout layout : {Layout::kDense, Layout::kReversed, Layout::kSpaced})
          check_int8(c, dtype, layout);
      }
      for (const DType type : {DType::kBool, DType::kFloat32}) {
        for (const std::int64_t s : {1, 12}) {
          const AttentionCase c{.n = 1, .h = 6, .g = 2, .s = s, .t = 140, .d = 10, .e = 12, .threads = 2};
          Tensor mask = random_mask(type, {c.n, c.h, c.s, c.t}, 7);
          check_int8(c, dtype, Layout::kDense, &mask);
        }
      }
    }
  });
}

// A row whose scale is not finite makes everything NaN that sees it, and nothing else.
TEST(cpu_attention, int8_rows_that_are_not_finite) {
  on_every_isa([] {
    for (const double scale : {kInfinity, std::nan("")}) {
      for (const std::size_t side : {4, 5}) {
        for (const std::int64_t s : {3, 30}) {
          Tensor q = filled(DType::kFloat32, {1, 1, s, 8}, 1), out(DType::kFloat32, {1, 1, s, 8});
          Int8Rows k({1, 1, 400, 8}, Layout::kDense, 2), v({1, 1, 400, 8}, Layout::kDense, 3);
          Int8Rows& rows = side == 4 ? k : v;
          rows.scales.set({0, 0, 150}, scale);
          for (std::int64_t e = 0; e < 8; ++e) rows.integers.set({0, 0, 150, e}, 0);
          Tensor mask(DType::kBool, {1, 1, s, 400});  // of each row, blocks of 128 with 150 or without
          for_each(mask.shape, [&](const Shape& i) { mask.set(i, i[3] < 128); });
          const auto run = [&] {
            run_op(cpu::make_attention, OpKind::kAttention, AttentionAttrs{.scale = 0.3},
                   {&q, &k.integers, &v.integers, &mask, &k.scales, &v.scales}, {&out}, 1);
            return out.get({0, 0, s - 1, 7});
          };
          CHECK(std::isfinite(run()));
          for (std::int64_t i = 0; i < s; ++i) mask.set({0, 0, i, 150}, 1);
          CHECK(std::isnan(run()));
        }
      }
    }
  });
}

TEST(cpu_attention, empty_extents) {
  on_every_isa([] {
    for (const auto masked : {AttentionAttrs::MaskedRows::kZero, AttentionAttrs::MaskedRows::kNan}) {
      for (const int extent : {0, 1, 2, 3, 4}) {
        AttentionCase c{.n = 2,
                        .h = 4,
                        .g = 2,
                        .s = 3,
                        .t = 5,
                        .d = 8,
                        .e = 9,
                        .attrs = {.scale = 1, .masked_rows = masked}};
        (extent == 0 ? c.n : extent == 1 ? c.s : extent == 2 ? c.t : extent == 3 ? c.d : c.e) = 0;
        check_plain(c, DType::kFloat32, false);
        check_plain(c, DType::kBFloat16, true);
      }
    }
  });
}

TEST(cpu_attention, masks) {
  on_every_isa([] {
    for (const DType dtype : kFloats) {
      for (const DType type : {DType::kBool, DType::kFloat32, dtype}) {
        for (const std::int64_t s : {1, 12}) {
          const AttentionCase c{.n = 2, .h = 6, .g = 2, .s = s, .t = 140, .d = 10, .e = 12, .threads = 2};
          const Shape whole = {c.n, c.h, c.s, c.t};
          Tensor full = random_mask(type, whole, 7);
          check_plain(c, dtype, true, &full);
          for (const Shape& shape : {Shape{1, 1, s, 140}, Shape{2, 1, 1, 140}, Shape{1, 6, 1, 140},
                                     Shape{1, 1, 1, 140}, Shape{2, 6, s, 1}}) {
            Tensor wide = random_mask(type, shape, 8).expanded(whole);
            check_plain(c, dtype, false, &wide);
          }
          Tensor spaced(type, whole, Layout::kSpaced);
          for_each(whole, [&](const Shape& i) { spaced.set(i, full.get(i)); });
          check_plain(c, dtype, false, &spaced);
        }
      }
    }
  });
}

TEST(cpu_attention, rows_that_see_nothing) {
  on_every_isa([] {
    for (const auto masked : {AttentionAttrs::MaskedRows::kZero, AttentionAttrs::MaskedRows::kNan}) {
      for (const DType type : {DType::kBool, DType::kFloat32}) {
        for (const std::int64_t s : {1, 40}) {
          AttentionCase c{.n = 1,
                          .h = 2,
                          .g = 1,
                          .s = s,
                          .t = 290,
                          .d = 16,
                          .e = 16,
                          .attrs = {.scale = 0.5, .masked_rows = masked},
                          .threads = 3};
          Tensor mask = random_mask(type, {1, 2, s, 290}, 9);
          for (std::int64_t t = 0; t < c.t; ++t)
            mask.set({0, 1, s / 2, t}, type == DType::kBool ? 0 : -kInfinity);
          check_plain(c, DType::kFloat32, true, &mask);
          Tensor none = random_mask(type, {1, 2, s, 290}, 9, 2);
          check_plain(c, DType::kFloat32, true, &none);
        }
      }
    }
  });
}

// Very small addends: exact where a row has nothing else, skipped where it has.
TEST(cpu_attention, very_small_addends) {
  on_every_isa([] {
    for (const DType type : {DType::kFloat32, DType::kBFloat16}) {
      const double least = type == DType::kFloat32 ? static_cast<double>(std::numeric_limits<float>::lowest())
                                                   : -3.3895313892515355e38;
      for (const std::int64_t s : {1, 40}) {
        const AttentionCase c{.n = 1, .h = 4, .g = 2, .s = s, .t = 700, .d = 16, .e = 16, .threads = 2};
        const Shape whole = {1, 4, s, 700};
        Tensor mask(type, {1, 1, s, 700});
        for_each(mask.shape, [&](const Shape& i) { mask.set(i, i[3] < 130 + i[2] ? 0 : least); });
        Tensor wide = mask.expanded(whole);
        check_plain(c, DType::kBFloat16, true, &wide);
        // One row has only such addends, and some -inf.
        for (std::int64_t t = 0; t < c.t; ++t) mask.set({0, 0, s / 2, t}, t < 300 ? -kInfinity : least);
        Tensor long_way = mask.expanded(whole);
        check_plain(c, DType::kBFloat16, true, &long_way);
      }
    }
  });
}

// What no row sees is not read: it may hold anything.
TEST(cpu_attention, hidden_blocks_are_not_read) {
  on_every_isa([] {
    for (const DType type : {DType::kBool, DType::kFloat32, DType::kBFloat16}) {
      for (const std::int64_t s : {1, 30}) {
        const AttentionCase c{.n = 1, .h = 4, .g = 2, .s = s, .t = 4096, .d = 16, .e = 16, .threads = 2};
        Tensor q = filled(DType::kBFloat16, {1, 4, s, 16}, 1),
               out = filled(DType::kBFloat16, {1, 4, s, 16}, 2);
        Tensor k(DType::kBFloat16, {1, 2, 4096, 16}), v(DType::kBFloat16, {1, 2, 4096, 16});
        Tensor kept_k = filled(DType::kBFloat16, {1, 2, 4096, 16}, 3), kept_v = kept_k;
        for_each(k.shape, [&](const Shape& i) {
          k.set(i, i[2] < 256 ? kept_k.get(i) : std::nan(""));
          v.set(i, i[2] < 256 ? kept_v.get(i) : std::nan(""));
        });
        Tensor mask(type, {1, 1, 1, 4096});
        for_each(mask.shape, [&](const Shape& i) {
          mask.set(i, i[3] < 200 ? type == DType::kBool : type == DType::kBool ? 0 : -3e38);
        });
        Tensor wide = mask.expanded({1, 4, s, 4096});
        run_op(cpu::make_attention, OpKind::kAttention, c.attrs, {&q, &k, &v, &wide}, {&out}, c.threads);
        Tensor again = out;
        run_op(cpu::make_attention, OpKind::kAttention, c.attrs, {&q, &kept_k, &kept_v, &wide}, {&out},
               c.threads);
        CHECK_TENSOR(again, [&](const Shape& i) { return out.get(i); });
      }
    }
  });
}

TEST(cpu_attention, scores_that_are_not_finite) {
  on_every_isa([] {
    for (const std::int64_t s : {1, 30}) {
      for (const int threads : {1, 5}) {
        for (const double bad : {std::nan(""), kInfinity, -kInfinity}) {
          AttentionCase c{.n = 1, .h = 2, .g = 1, .s = s, .t = 700, .d = 4, .e = 20, .threads = threads};
          Tensor q = filled(DType::kFloat32, {1, 2, s, 4}, 1), k = filled(DType::kFloat32, {1, 1, 700, 4}, 2);
          Tensor v = filled(DType::kFloat32, {1, 1, 700, 20}, 3),
                 out = filled(DType::kFloat32, {1, 2, s, 20}, 4);
          q.set({0, 1, s - 1, 0}, 1);
          for (std::int64_t i = 0; i < s; ++i) q.set({0, 0, i, 0}, 0.5);
          Tensor mask(DType::kFloat32, {1, 2, s, 700});
          mask.set({0, 1, s - 1, 300}, bad);
          run_op(cpu::make_attention, OpKind::kAttention, c.attrs, {&q, &k, &v, &mask}, {&out}, threads);
          for_each(out.shape, [&](const Shape& at) {
            const bool hit = at[1] == 1 && at[2] == s - 1 && bad != -kInfinity;
            CHECK_EQ(std::isnan(out.get(at)), hit);
          });
        }
      }
    }
  });
}

TEST(cpu_attention, any_strides) {
  on_every_isa([] {
    for (const DType dtype : kFloats) {
      for (const Layout layout : kLayouts) {
        for (const std::int64_t s : {1, 20}) {
          const AttentionCase c{.n = 2, .h = 4, .g = 2, .s = s, .t = 140, .d = 24, .e = 20, .threads = 2};
          Tensor q = filled(dtype, {2, 4, s, 24}, 1, layout), k = filled(dtype, {2, 2, 140, 24}, 2, layout);
          Tensor v = filled(dtype, {2, 2, 140, 20}, 3, layout), out = filled(dtype, {2, 4, s, 20}, 4, layout);
          check_attention(c, q, k, v, nullptr, out);
        }
      }
    }
  });
}

namespace {

struct RopeCase {
  DType dtype = DType::kFloat32, angles = DType::kFloat32;
  std::int64_t n = 2, h = 3, g = 2, s = 5, d = 24, r = 24, capacity = 11;
  bool interleaved = false, permuted = false;
  int threads = 1;
};

double turned(const RopeCase& c, const Tensor& x, const Tensor& cos, const Tensor& sin, const Shape& at) {
  const std::int64_t i = at[3], half = c.r / 2;
  if (i >= c.r) return x.get(at);
  const bool first = c.interleaved ? i % 2 == 0 : i < half;
  const std::int64_t other = c.interleaved ? (first ? i + 1 : i - 1) : (first ? i + half : i - half);
  const Shape angle = {at[0], 0, at[2], i};
  const double b = x.get({at[0], at[1], at[2], other});
  return x.get(at) * cos.get(angle) + (first ? -b : b) * sin.get(angle);
}

Tensor of_case(const RopeCase& c, const Shape& shape, unsigned seed) {
  return c.permuted ? heads_inside(c.dtype, shape, seed) : filled(c.dtype, shape, seed);
}

void check_rope(const RopeCase& c, bool in_place) {
  Tensor x = of_case(c, {c.n, c.h, c.s, c.d}, 1), key = of_case(c, {c.n, c.g, c.s, c.d}, 2);
  Tensor value = of_case(c, {c.n, c.g, c.s, c.d + 3}, 3);
  Tensor keys = of_case(c, {c.n, c.g, c.capacity, c.d}, 4);
  Tensor values = of_case(c, {c.n, c.g, c.capacity, c.d + 3}, 5);
  const Tensor old_keys = keys, old_values = values;
  Tensor cos = filled(c.angles, {1, 1, c.s, c.r}, 6).expanded({c.n, 1, c.s, c.r});
  Tensor sin = filled(c.angles, {1, 1, c.s, c.r}, 7).expanded({c.n, 1, c.s, c.r});
  Tensor index(DType::kInt64, {c.s});
  const std::int64_t steps[] = {7, 2, 0, 2, 10};  // the second 2 wins
  for (std::int64_t s = 0; s < c.s; ++s) index.set({s}, static_cast<double>(steps[s % 5]));
  Tensor out = of_case(c, x.shape, 8), alone = of_case(c, key.shape, 9);
  Tensor key_out = of_case(c, keys.shape, 10), value_out = of_case(c, values.shape, 11);
  const Attrs attrs = RopeAttrs{.interleaved = c.interleaved};
  const auto wanted = [&](const Shape& at) { return turned(c, x, cos, sin, at); };
  const auto run = [&](const std::vector<Tensor*>& in, const std::vector<Tensor*>& results) {
    run_op(cpu::make_rope, OpKind::kRope, attrs, in, results, c.threads);
    CHECK_TENSOR(out, wanted, 2);
  };
  run({&x, &cos, &sin, nullptr, nullptr, nullptr, nullptr, nullptr}, {&out, nullptr, nullptr});
  run({&x, &cos, &sin, &key, nullptr, nullptr, nullptr, nullptr}, {&out, &alone, nullptr});
  CHECK_TENSOR(alone, [&](const Shape& at) { return turned(c, key, cos, sin, at); }, 2);
  Tensor &to = in_place ? keys : key_out, &value_to = in_place ? values : value_out;
  run({&x, &cos, &sin, &key, &value, &keys, &values, &index}, {&out, &to, &value_to});
  const auto source = [&](std::int64_t row) {
    std::int64_t last = -1;
    for (std::int64_t s = 0; s < c.s; ++s) last = steps[s % 5] == row ? s : last;
    return last;
  };
  CHECK_TENSOR(
      to,
      [&](const Shape& at) {
        const std::int64_t s = source(at[2]);
        return s < 0 ? old_keys.get(at) : turned(c, key, cos, sin, {at[0], at[1], s, at[3]});
      },
      2);
  CHECK_TENSOR(value_to, [&](const Shape& at) {
    const std::int64_t s = source(at[2]);
    return s < 0 ? old_values.get(at) : value.get({at[0], at[1], s, at[3]});
  });
}

}  // namespace

TEST(cpu_attention, rope) {
  on_every_isa([] {
    for (const DType dtype : kFloats) {
      for (const DType angles : {DType::kFloat32, dtype}) {
        for (int options = 0; options < 16; ++options) {
          RopeCase c{.dtype = dtype, .angles = angles};
          c.interleaved = options & 1, c.permuted = options & 2, c.r = options & 4 ? 10 : 24;
          c.threads = options & 1 ? 2 : 1;
          check_rope(c, options & 8);
        }
      }
    }
    check_rope({.n = 1, .h = 12, .g = 4, .s = 100, .d = 128, .r = 128, .threads = 2}, true);
    check_rope({.h = 0, .s = 0, .r = 0}, false);
  });
}

TEST(cpu_attention, rope_refuses_an_index_out_of_range) {
  for (const double bad : {-1.0, 4.0}) {
    Tensor x = filled(DType::kFloat32, {1, 1, 2, 8}, 1), key = x, out = x;
    Tensor cos = filled(DType::kFloat32, {1, 1, 2, 8}, 2), sin = cos;
    Tensor keys = filled(DType::kFloat32, {1, 1, 4, 8}, 3);
    const Tensor before = keys;
    Tensor index(DType::kInt64, {2});
    index.set({1}, bad);
    CHECK_THROWS(run_op(cpu::make_rope, OpKind::kRope, RopeAttrs{},
                        {&x, &cos, &sin, &key, nullptr, &keys, nullptr, &index}, {&out, &keys, nullptr}),
                 "out of range in dimension 2");
    CHECK_TENSOR(keys, [&](const Shape& at) { return before.get(at); });
  }
}

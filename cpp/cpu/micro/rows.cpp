// Reductions of rows, and rows into rows.
#include "cpu/micro/functions.h"
#include "cpu/micro/half.h"
#include "cpu/micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

// Elements that are summed in float32 before a double takes them over.
constexpr std::int64_t kBlock = 128 * kLanes;

// Rows as they are stored, read as float32.
struct Floats {
  using Element = float;
  static F32 whole(const float* p) { return load(p); }
  static F32 part(const float* p, std::int64_t n) { return load_part(p, n); }
};
template <F32 (*convert)(U16)>
struct Halves {
  using Element = std::uint16_t;
  static F32 whole(const std::uint16_t* p) { return convert(load16(p)); }
  static F32 part(const std::uint16_t* p, std::int64_t n) { return convert(load16_part(p, n)); }
};

template <class Run>
inline auto visit_stored(DType dtype, Run&& run) {
  if (dtype == DType::kBFloat16) return run(Halves<from_bf16>());
  if (dtype == DType::kFloat16) return run(Halves<from_f16>());
  return run(Floats());
}

template <class Stored, class F>
inline double sum_of(const typename Stored::Element* x, std::int64_t n, F f) {
  double total = 0;
  for (std::int64_t begin = 0; begin < n; begin += kBlock) {
    const std::int64_t end = n - begin < kBlock ? n : begin + kBlock;
    F32 acc[4] = {};
    std::int64_t i = begin;
    for (; i + 4 * kLanes <= end; i += 4 * kLanes) {
      for (int j = 0; j < 4; ++j) acc[j] += f(Stored::whole(x + i + j * kLanes));
    }
    for (; i + kLanes <= end; i += kLanes) acc[0] += f(Stored::whole(x + i));
    if (i < end) {
      float last[kLanes];
      store(last, f(Stored::part(x + i, end - i)));
      acc[1] += load_part(last, end - i);  // without the lanes beyond the end
    }
    total += lane_sum((acc[0] + acc[1]) + (acc[2] + acc[3]));
  }
  return total;
}

double sum(const float* x, std::int64_t n) {
  return sum_of<Floats>(x, n, [](F32 v) { return v; });
}

double sum_stored(DType dtype, const void* x, std::int64_t n) {
  return visit_stored(dtype, [&]<class Stored>(Stored) {
    return sum_of<Stored>(static_cast<const typename Stored::Element*>(x), n, [](F32 v) { return v; });
  });
}

double sum_around(const float* x, float centre, std::int64_t n) {
  return sum_of<Floats>(x, n, [centre](F32 v) { return v - centre; });
}

double sum_squares(const float* x, float centre, std::int64_t n) {
  return sum_of<Floats>(x, n, [centre](F32 v) { return (v - centre) * (v - centre); });
}

float maximum(const float* x, std::int64_t n) {
  const float least = -__builtin_inff();
  F32 acc[4] = {all(least), all(least), all(least), all(least)};
  std::int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int j = 0; j < 4; ++j) acc[j] = max_of(acc[j], load(x + i + j * kLanes));
  }
  for (; i + kLanes <= n; i += kLanes) acc[0] = max_of(acc[0], load(x + i));
  const F32 lanes = max_of(max_of(acc[0], acc[1]), max_of(acc[2], acc[3]));
  float best = lane_max(lanes);
  for (; i < n; ++i) best = x[i] > best || x[i] != x[i] ? x[i] : best;
  return best;
}

template <bool keep>
inline float exponentials(const float* x, float centre, float* y, std::int64_t n) {
  double total = 0;
  for (std::int64_t begin = 0; begin < n; begin += kBlock) {
    const std::int64_t end = n - begin < kBlock ? n : begin + kBlock;
    F32 acc = {};
    std::int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      const F32 e = exp_of(load(x + i) - centre);
      acc += e;
      if (keep) store(y + i, e);
    }
    if (i < end) {
      float last[kLanes];
      store(last, exp_of(load_part(x + i, end - i) - centre));
      acc += load_part(last, end - i);  // without the lanes beyond the end
      if (keep) store_part(y + i, load(last), end - i);
    }
    total += lane_sum(acc);
  }
  return static_cast<float>(total);
}

float exp_minus(const float* x, float centre, float* y, std::int64_t n) {
  return exponentials<true>(x, centre, y, n);
}
float exp_sum(const float* x, float centre, std::int64_t n) {
  return exponentials<false>(x, centre, nullptr, n);
}

void max_into(const float* x, float* y, std::int64_t n) {
  each(x, y, y, n, [](F32 u, F32 v) { return max_of(u, v); });
}
void add_into(const float* x, float* y, std::int64_t n) {
  each(x, y, y, n, [](F32 u, F32 v) { return u + v; });
}
void multiply_add(const float* x, const float* w, float* y, std::int64_t n) {
  each(x, w, y, y, n, [](F32 u, F32 v, F32 old) { return old + u * v; });
}
void scale_shift(const float* x, float scale, float shift, float* y, std::int64_t n) {
  each(x, y, n, [=](F32 v) { return v * scale + shift; });
}
void scale_centred(const float* x, float centre, float scale, float shift, float* y, std::int64_t n) {
  each(x, y, n, [=](F32 v) { return (v - centre) * scale + shift; });
}
void scale_centred_each(const float* x, const float* centre, const float* scale, const float* shift, float* y,
                        std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    store(y + i, (load(x + i) - load(centre + i)) * load(scale + i) + load(shift + i));
  }
  for (; i < n; ++i) y[i] = (x[i] - centre[i]) * scale[i] + shift[i];
}
void add_around_into(const float* x, const float* centre, float* y, std::int64_t n) {
  each(x, centre, y, y, n, [](F32 v, F32 c, F32 old) { return old + (v - c); });
}
void add_squares_into(const float* x, const float* centre, float* y, std::int64_t n) {
  each(x, centre, y, y, n, [](F32 v, F32 c, F32 old) { return old + (v - c) * (v - c); });
}

void normalize(const float* x, float mean, float scale, const float* w, const float* b, float* y,
               std::int64_t n) {
  if (w != nullptr && b != nullptr) {
    each(x, w, b, y, n, [=](F32 v, F32 u, F32 t) { return (v - mean) * scale * u + t; });
  } else if (w != nullptr) {
    each(x, w, y, n, [=](F32 v, F32 u) { return (v - mean) * scale * u; });
  } else if (b != nullptr) {
    each(x, b, y, n, [=](F32 v, F32 t) { return (v - mean) * scale + t; });
  } else {
    each(x, y, n, [=](F32 v) { return (v - mean) * scale; });
  }
}

// y = finish(the rows folded from `start`), two vectors at a time. fold(acc, i, v) takes row i.
template <class Stored, class Fold, class Finish>
inline void fold_rows(const typename Stored::Element* x, const WindowRows& rows, float start, float* y,
                      std::int64_t n, Fold fold, Finish finish) {
  std::int64_t j = 0;
  for (; j + 2 * kLanes <= n; j += 2 * kLanes) {
    F32 a = all(start), b = all(start);
    for (std::int64_t i = 0; i < rows.count; ++i) {
      const auto* const row = x + rows.offsets[i] + j;
      a = fold(a, i, Stored::whole(row));
      b = fold(b, i, Stored::whole(row + kLanes));
    }
    store(y + j, finish(a));
    store(y + j + kLanes, finish(b));
  }
  for (; j + kLanes <= n; j += kLanes) {
    F32 a = all(start);
    for (std::int64_t i = 0; i < rows.count; ++i) a = fold(a, i, Stored::whole(x + rows.offsets[i] + j));
    store(y + j, finish(a));
  }
  if (j < n) {
    F32 a = all(start);
    for (std::int64_t i = 0; i < rows.count; ++i)
      a = fold(a, i, Stored::part(x + rows.offsets[i] + j, n - j));
    store_part(y + j, finish(a), n - j);
  }
}

template <class Fold, class Finish>
inline void fold_stored(const WindowRows& rows, float start, float* y, std::int64_t n, Fold fold,
                        Finish finish) {
  visit_stored(rows.dtype, [&]<class Stored>(Stored) {
    fold_rows<Stored>(static_cast<const typename Stored::Element*>(rows.x), rows, start, y, n, fold, finish);
  });
}

void window_max(const WindowRows& rows, float* y, std::int64_t n) {
  fold_stored(
      rows, -__builtin_inff(), y, n, [](F32 acc, std::int64_t, F32 v) { return max_of(acc, v); },
      [](F32 acc) { return acc; });
}

void window_sum(const WindowRows& rows, float scale, float* y, std::int64_t n) {
  fold_stored(
      rows, 0.0f, y, n, [](F32 acc, std::int64_t, F32 v) { return acc + v; },
      [scale](F32 acc) { return acc * scale; });
}

void window_weighted(const WindowRows& rows, const float* weights, float* y, std::int64_t n) {
  fold_stored(
      rows, 0.0f, y, n, [weights](F32 acc, std::int64_t i, F32 v) { return acc + v * weights[i]; },
      [](F32 acc) { return acc; });
}

}  // namespace

void fill_rows(Micro& micro) {
  micro.sum = sum;
  micro.sum_stored = sum_stored;
  micro.sum_around = sum_around;
  micro.sum_squares = sum_squares;
  micro.maximum = maximum;
  micro.exp_minus = exp_minus;
  micro.exp_sum = exp_sum;
  micro.max_into = max_into;
  micro.add_into = add_into;
  micro.multiply_add = multiply_add;
  micro.scale_shift = scale_shift;
  micro.scale_centred = scale_centred;
  micro.scale_centred_each = scale_centred_each;
  micro.add_around_into = add_around_into;
  micro.add_squares_into = add_squares_into;
  micro.normalize = normalize;
  micro.window_max = window_max;
  micro.window_sum = window_sum;
  micro.window_weighted = window_weighted;
}

}  // namespace npu::cpu::NPU_ISA

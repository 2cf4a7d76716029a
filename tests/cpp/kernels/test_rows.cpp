// Norms, softmax, reductions, scans and sorts beside the CPU's kernels, in every form that is chosen.
#include "support/gpu_against_cpu.h"

using namespace npu;
using namespace npu::test;

namespace {

const Subject kNorm{cpu::make_norm, gpu::make_norm, OpKind::kNorm};
const Subject kSoftmax{cpu::make_softmax, gpu::make_softmax, OpKind::kSoftmax};
const Subject kReduce{cpu::make_reduce, gpu::make_reduce, OpKind::kReduce};
const Subject kScanExtreme{cpu::make_scan_extreme, gpu::make_scan_extreme, OpKind::kScanExtreme};
const Subject kScan{cpu::make_scan, gpu::make_scan, OpKind::kScan};
const Subject kSort{cpu::make_sort, gpu::make_sort, OpKind::kSort};
const Subject kTopk{cpu::make_topk, gpu::make_topk, OpKind::kTopk};

using Reduction = ReduceAttrs::Kind;
constexpr Reduction kReductions[] = {
    Reduction::kSum, Reduction::kMean, Reduction::kProd,   Reduction::kMax,    Reduction::kMin,
    Reduction::kAny, Reduction::kAll,  Reduction::kArgmax, Reduction::kArgmin, Reduction::kVar};

DType reduced(Reduction kind, DType from) {
  if (kind == Reduction::kArgmax || kind == Reduction::kArgmin) return DType::kInt64;
  if (kind == Reduction::kAny || kind == Reduction::kAll) return DType::kBool;
  const bool adds = kind == Reduction::kSum || kind == Reduction::kProd;
  return adds && !is_float(from) ? DType::kInt64 : from;
}

void check_reductions(DType dtype, const Shape& shape, const std::vector<std::int64_t>& axes, Layout layout,
                      bool special = false) {
  for (const Reduction kind : kReductions) {
    const bool position = kind == Reduction::kArgmax || kind == Reduction::kArgmin;
    const bool fraction = kind == Reduction::kMean || kind == Reduction::kVar;
    if ((position && axes.size() != 1) || (fraction && !is_float(dtype))) continue;
    Tensor x = random(dtype, shape, layout);
    if (kind == Reduction::kProd && is_float(dtype))
      for_each(shape, [&](const Shape& i) { x.set(i, x.get(i) < 0 ? -1.001 : 1.001); });
    if (kind == Reduction::kAny || kind == Reduction::kAll) {  // both results, whichever axes are reduced
      const double usual = kind == Reduction::kAll ? 1 : 0;
      for_each(shape, [&](const Shape& i) { x.set(i, usual); });
      x.set(Shape(shape.size(), 1), 1 - usual);
    }
    if (special && is_float(dtype)) x.set(Shape(shape.size(), 0), kind == Reduction::kVar ? 2 : NAN);
    Shape out = shape;
    for (const std::int64_t axis : axes) out[static_cast<std::size_t>(axis)] = 1;
    Tensor y(reduced(kind, dtype), out);
    // What the CPU adds in float32 before it goes on in double cancels in long sums, more or less as its
    // vectors are wide.
    const bool cancels = (kind == Reduction::kSum || kind == Reduction::kMean) && count(shape) > 100;
    const double tolerance = cancels ? 40 : 2;
    AGREE(kReduce, (ReduceAttrs{kind, axes, 1.0}), (Operands{&x}), (Operands{&y}), tolerance);
  }
}

}  // namespace

TEST(kernels_rows, reduces_any_axes) {
  for (const DType dtype : kAllTypes) {
    for (const Layout layout : kReadLayouts) {
      for (const std::vector<std::int64_t>& axes :
           {std::vector<std::int64_t>{0}, {1}, {3}, {0, 2}, {1, 2, 3}, {0, 1, 2, 3}})
        check_reductions(dtype, {2, 9, 3, 7}, axes, layout);
      check_reductions(dtype, {3, 70}, {1}, layout, true);
    }
  }
}

TEST(kernels_rows, reduces_long_rows_and_columns_in_parts) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kInt64, DType::kUInt8}) {
    check_reductions(dtype, {2, 20003}, {1}, Layout::kDense);
    check_reductions(dtype, {9001, 3}, {0}, Layout::kDense);
    check_reductions(dtype, {3000, 40}, {0}, Layout::kDense);
    check_reductions(dtype, {2, 20003}, {1}, Layout::kSpaced, true);
  }
}

TEST(kernels_rows, sums_are_exact_but_for_the_last_bit) {
  Tensor x(DType::kFloat32, {1 << 16}), y(DType::kFloat32, {1});
  for_each(x.shape, [&](const Shape& i) { x.set(i, 0.1); });
  GpuRun run;
  run_gpu(gpu::make_reduce, OpKind::kReduce, ReduceAttrs{Reduction::kSum, {0}, 0.0}, {&x}, {&y}, run);
  CHECK_EQ(y.get({0}), static_cast<double>(static_cast<float>(65536 * static_cast<double>(0.1f))));
}

TEST(kernels_rows, reduces_nothing) {
  for (const Reduction kind :
       {Reduction::kSum, Reduction::kProd, Reduction::kMean, Reduction::kAny, Reduction::kAll}) {
    Tensor x(DType::kFloat32, {3, 0}), y(reduced(kind, DType::kFloat32), {3, 1});
    AGREE(kReduce, (ReduceAttrs{kind, {1}, 0.0}), (Operands{&x}), (Operands{&y}), 0);
  }
}

TEST(kernels_rows, norms) {
  using Kind = NormAttrs::Kind;
  for (const DType dtype : kFloatTypes) {
    for (const Layout layout : kReadLayouts) {
      for (const std::int64_t n : {2, 5, 64, 130, 1031, 4100}) {
        for (const Kind kind : {Kind::kLayer, Kind::kRms}) {
          Tensor x = random(dtype, {3, n}, layout), y(dtype, {3, n}, layout);
          Tensor w = random(DType::kFloat32, {n}), b = random(dtype, {n}, Layout::kSpaced);
          AGREE(kNorm, (NormAttrs{kind, 1, 1, 1e-5}), (Operands{&x, &w, &b}), (Operands{&y}), 8);
          AGREE(kNorm, (NormAttrs{kind, 1, 1, 1e-5}), (Operands{&x, nullptr, nullptr}), (Operands{&y}), 8);
        }
      }
      Tensor x = random(dtype, {2, 12, 3, 5}, layout), y(dtype, {2, 12, 3, 5}, layout),
             w = random(dtype, {12});
      AGREE(kNorm, (NormAttrs{Kind::kGroup, 1, 3, 1e-5}), (Operands{&x, &w, nullptr}), (Operands{&y}), 8);
    }
  }
}

// Few channels of many pixels, far from zero.
TEST(kernels_rows, group_norms_by_columns) {
  for (const DType dtype : kFloatTypes) {
    const Shape shape{2, 24, 37, 41};
    Tensor x = random(dtype, shape, Layout::kChannelsLast), y(dtype, shape, Layout::kChannelsLast);
    for_each(shape, [&](const Shape& i) { x.set(i, x.get(i) + 20); });
    Tensor w = random(DType::kFloat32, {24}), b = random(dtype, {24});
    const GpuRun run = AGREE(kNorm, (NormAttrs{NormAttrs::Kind::kGroup, 1, 4, 1e-5}), (Operands{&x, &w, &b}),
                             (Operands{&y}), 30);
    CHECK_EQ(run.launches, 3u);
  }
}

TEST(kernels_rows, softmax_of_any_rows) {
  for (const DType dtype : kFloatTypes) {
    for (const Layout layout : kReadLayouts) {
      for (const bool log : {false, true}) {
        for (const std::int64_t n : {1, 7, 66, 1030, 5003}) {
          Tensor x = random(dtype, {3, n}, layout), y(dtype, {3, n}, layout);
          if (n > 1) x.set({0, 1}, -INFINITY);
          for_each({n}, [&](const Shape& i) { x.set({1, i[0]}, -INFINITY); });
          if (n > 1) x.set({2, 0}, INFINITY);
          AGREE(kSoftmax, (SoftmaxAttrs{1, log}), (Operands{&x}), (Operands{&y}), 4);
          Tensor low = random(dtype, {2, n}, layout), of_low(dtype, {2, n}, layout);
          for_each(low.shape, [&](const Shape& i) { low.set(i, low.get(i) - 200); });
          AGREE(kSoftmax, (SoftmaxAttrs{1, log}), (Operands{&low}), (Operands{&of_low}), 4);
        }
        Tensor x = random(dtype, {2, 5, 300}, layout), y(dtype, {2, 5, 300}, layout);
        AGREE(kSoftmax, (SoftmaxAttrs{1, log}), (Operands{&x}), (Operands{&y}), 4);
      }
    }
  }
}

TEST(kernels_rows, softmax_of_a_long_row_in_parts) {
  for (const DType dtype : kFloatTypes) {
    Tensor x = random(dtype, {2, 33001}), y(dtype, {2, 33001});
    CHECK_EQ(AGREE(kSoftmax, (SoftmaxAttrs{1, false}), (Operands{&x}), (Operands{&y}), 4).launches, 2u);
    CHECK_EQ(AGREE(kSoftmax, (SoftmaxAttrs{1, true}), (Operands{&x}), (Operands{&y}), 4).launches, 2u);
  }
}

TEST(kernels_rows, more_parts_than_threads) {
  gpu::Caps many;
  many.cores = 100;
  for (const Shape& shape : {Shape{1, 70 * 4096 + 5}, Shape{40 * 512, 8}}) {
    const std::int64_t axis = shape[0] == 1 ? 1 : 0;
    Tensor terms = random(DType::kInt32, shape), sum(DType::kInt64, {1, shape[0] == 1 ? 1 : 8});
    AGREE(kReduce, (ReduceAttrs{Reduction::kSum, {axis}, 0}), (Operands{&terms}), (Operands{&sum}), 0, many);
  }
  Tensor x = random(DType::kFloat32, {1, 260 * 4096}), y(DType::kFloat32, x.shape);
  // Of a softmax so long, everything would be within the tolerance of zero.
  AGREE(kSoftmax, (SoftmaxAttrs{1, true}), (Operands{&x}), (Operands{&y}), 8, many);
  Tensor numbers = random(DType::kInt32, {260 * 8192}), sums(DType::kInt64, numbers.shape);
  AGREE(kScan, (ScanAttrs{ScanAttrs::Kind::kSum, 0}), (Operands{&numbers}), (Operands{&sums}), 0, many);
}

TEST(kernels_rows, scans) {
  using Kind = ScanAttrs::Kind;
  for (const DType dtype : kAllTypes) {
    for (const Layout layout : kReadLayouts) {
      for (const Kind kind : {Kind::kSum, Kind::kProd}) {
        for (const std::int64_t axis : {0, 1}) {
          Tensor x = random(dtype, {37, 50}, layout), y(is_float(dtype) ? dtype : DType::kInt64, {37, 50});
          if (is_float(dtype) && kind == Kind::kProd)
            for_each(x.shape, [&](const Shape& i) { x.set(i, x.get(i) < 0 ? -1.001 : 1.001); });
          AGREE(kScan, (ScanAttrs{kind, axis}), (Operands{&x}), (Operands{&y}), 1);
        }
      }
    }
    for (const Layout layout : {Layout::kDense, Layout::kSpaced}) {
      Tensor x = random(dtype, {2, 9000}, layout), y(is_float(dtype) ? dtype : DType::kInt64, {2, 9000});
      AGREE(kScan, (ScanAttrs{Kind::kSum, 1}), (Operands{&x}), (Operands{&y}), 1);
    }
  }
}

TEST(kernels_rows, sorts_and_finds_the_first) {
  for (const DType dtype : kAllTypes) {
    for (const bool descending : {false, true}) {
      for (const std::int64_t n : {1, 2, 33, 2500}) {
        Tensor x = random(dtype, {3, n}), values(dtype, {3, n}), indices(DType::kInt64, {3, n});
        if (is_float(dtype) && n > 2) x.set({0, 1}, NAN), x.set({0, 2}, -0.0), x.set({1, 1}, -INFINITY);
        AGREE(kSort, (SortAttrs{1, descending}), (Operands{&x}), (Operands{&values, &indices}), 0);
        Tensor some(dtype, {3, std::min<std::int64_t>(n, 3)}), where(DType::kInt64, some.shape);
        AGREE(kTopk, (TopkAttrs{1, descending}), (Operands{&x}), (Operands{&some, &where}), 0);
        AGREE(kTopk, (TopkAttrs{1, descending}), (Operands{&x}), (Operands{nullptr, &where}), 0);
      }
      Tensor x = random(dtype, {6, 4}, Layout::kSpaced), values(dtype, {6, 4}, Layout::kReversed);
      AGREE(kSort, (SortAttrs{0, descending}), (Operands{&x}), (Operands{&values, nullptr}), 0);
    }
  }
}

TEST(kernels_rows, scans_extremes) {
  using Kind = ScanExtremeAttrs::Kind;
  for (const DType dtype : kAllTypes) {
    for (const Layout layout : kReadLayouts) {
      for (const Kind kind : {Kind::kMax, Kind::kMin}) {
        for (const Shape& shape : {Shape{7, 50}, Shape{37, 9}, Shape{3, 400}}) {
          for (const std::int64_t axis : {0, 1}) {
            Tensor x = random(dtype, shape, layout), y(dtype, shape), indices(DType::kInt64, shape);
            if (is_float(dtype)) x.set({1, 5}, NAN);
            const ScanExtremeAttrs attrs{kind, axis};
            AGREE(kScanExtreme, attrs, (Operands{&x}), (Operands{&y, &indices}), 0);
            AGREE(kScanExtreme, attrs, (Operands{&x}), (Operands{&y, nullptr}), 0);
            AGREE(kScanExtreme, attrs, (Operands{&x}), (Operands{nullptr, &indices}), 0);
          }
        }
      }
    }
  }
}

// Attention on the software shader machine, against its definition in double.
#include "support/attention_problem.h"

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

TEST(kernels_attention, few_rows) {
  for (const DType dtype : kFloatTypes) {
    for (const std::int64_t width : {1, 5, 16, 24, 64, 80, 128}) {
      const GpuRun run =
          CHECK_ATTENTION(.rows = 1, .length = 77, .width = width, .value_width = width, .dtype = dtype);
      CHECK_EQ(run.kernel, "attention[rows]");
    }
    for (const std::int64_t heads : {1, 2, 5, 8, 12, 22}) {
      CHECK_ATTENTION(.heads = heads, .groups = 1, .rows = 1, .length = 40, .width = 8, .value_width = 12,
                      .dtype = dtype);
    }
    for (const bool causal : {false, true}) {
      CHECK_ATTENTION(.rows = 8, .length = 40, .width = 130, .value_width = 34, .dtype = dtype,
                      .causal = causal);
      CHECK_ATTENTION(.rows = 5, .length = 3, .width = 34, .value_width = 256, .dtype = dtype,
                      .causal = causal);
    }
  }
  CHECK_ATTENTION(.rows = 2, .length = 300, .width = 256, .value_width = 7);
  CHECK_ATTENTION(.rows = 2, .length = 50, .width = 0, .value_width = 8);
  CHECK_ATTENTION(.rows = 20, .length = 50, .width = 0, .value_width = 8);
  CHECK_ATTENTION(.rows = 1, .length = 300, .width = 9, .value_width = 251);
}

TEST(kernels_attention, many_columns_are_split) {
  gpu::Caps large;
  large.cores = 40;
  for (const DType dtype : kFloatTypes) {
    for (const std::int64_t rows : {1, 3}) {
      const GpuRun run =
          CHECK_ATTENTION(.batch = 1, .rows = rows, .length = 1030, .width = 8, .value_width = 10,
                          .dtype = dtype, .causal = rows > 1, .caps = large);
      CHECK_EQ(run.kernel, "attention[rows, split]");
      CHECK_EQ(run.launches, 2u);
      for (const MaskKind mask : kMasks) {
        CHECK_ATTENTION(.rows = rows, .length = 900, .width = 8, .value_width = 4, .dtype = dtype,
                        .mask = mask, .addend = scattered, .mask_per_head = true);
      }
    }
  }
}

// By every kernel.
TEST(kernels_attention, int8_keys_and_values) {
  gpu::Caps large;
  large.cores = 40;
  for (const DType dtype : kFloatTypes) {
    for (const Layout layout : {Layout::kDense, Layout::kReversed, Layout::kSpaced}) {
      CHECK_ATTENTION(.rows = 1, .length = 77, .width = 64, .value_width = 48, .dtype = dtype, .k = layout,
                      .v = layout, .int8 = true);
      CHECK_ATTENTION(.rows = 3, .length = 50, .width = 9, .value_width = 21, .dtype = dtype, .k = layout,
                      .v = layout, .causal = true, .int8 = true);
      CHECK_ATTENTION(.batch = 1, .heads = 4, .rows = 20, .length = 70, .width = 40, .value_width = 22,
                      .dtype = dtype, .k = layout, .v = layout, .causal = true, .int8 = true);
      CHECK_ATTENTION(.batch = 1, .heads = 2, .rows = 2, .length = 33, .width = 300, .value_width = 290,
                      .dtype = dtype, .k = layout, .v = layout, .int8 = true);
    }
    CHECK_ATTENTION(.batch = 1, .rows = 1, .length = 1030, .width = 16, .value_width = 10, .dtype = dtype,
                    .caps = large, .int8 = true);
    for (const std::int64_t rows : {1, 3, 20}) {
      CHECK_ATTENTION(.rows = rows, .length = 130, .dtype = dtype, .mask = MaskKind::kBool,
                      .addend = scattered, .mask_per_head = true, .int8 = true);
    }
  }
}

TEST(kernels_attention, masks) {
  const auto few = [](std::int64_t, std::int64_t, std::int64_t s, std::int64_t t) {
    return t == 5 * s + 1 ? 0 : -kInfinity;
  };
  const auto graded = [](std::int64_t n, std::int64_t h, std::int64_t s, std::int64_t t) {
    return t % 7 == 3 ? -kInfinity : 0.25 * static_cast<double>((n + 2 * h + 3 * s + t) % 9);
  };
  for (const DType dtype : kFloatTypes) {
    for (const MaskKind mask : kMasks) {
      for (const bool per_head : {false, true}) {
        CHECK_ATTENTION(.length = 130, .dtype = dtype, .mask = mask, .addend = scattered,
                        .mask_per_head = per_head);
      }
      CHECK_ATTENTION(.length = 70, .dtype = dtype, .mask = mask, .addend = few);
      if (mask != MaskKind::kBool)
        CHECK_ATTENTION(.length = 70, .dtype = dtype, .mask = mask, .addend = graded, .mask_per_head = true);
    }
  }
}

TEST(kernels_attention, rows_that_see_nothing) {
  const auto nothing = [](std::int64_t n, std::int64_t, std::int64_t s, std::int64_t t) {
    return s == 1 || (n == 1 && t < 50) ? -kInfinity : 0;
  };
  for (const bool nan : {false, true}) {
    for (const MaskKind mask : kMasks) {
      CHECK_ATTENTION(.length = 60, .mask = mask, .addend = nothing, .nan = nan);
      CHECK_ATTENTION(.length = 700, .width = 4, .value_width = 5, .mask = mask, .addend = nothing,
                      .nan = nan);
      CHECK_ATTENTION(.length = 60, .value_width = 300, .mask = mask, .addend = nothing, .nan = nan);
    }
    CHECK_ATTENTION(.length = 0, .nan = nan);
    CHECK_ATTENTION(.length = 0, .value_width = 300, .nan = nan);
  }
  CHECK_ATTENTION(.rows = 0);
  CHECK_ATTENTION(.batch = 0);
  CHECK_ATTENTION(.heads = 0);
  CHECK_ATTENTION(.value_width = 0);
}

// The least float instead of -inf: it leaves nothing of a weight, but where a row has nothing else.
TEST(kernels_attention, masks_that_are_far_below) {
  constexpr double kLeast = -0x1.fep127;  // of bfloat16; a float32 too
  const auto below = [](std::int64_t n, std::int64_t, std::int64_t s, std::int64_t t) {
    if (s == 1) return n == 0 || t % 5 > 0 ? kLeast : -kInfinity;  // a row with nothing else
    return t < 70 + 3 * s && t != 1 ? (t < 33 && s == 2 ? kLeast : 0) : kLeast;
  };
  const auto late = [](std::int64_t, std::int64_t, std::int64_t, std::int64_t t) {
    return t > 69 ? -2 : kLeast;
  };
  for (const std::int64_t length : {100, 170, 700}) {
    for (const auto& addend : {Addend(below), Addend(late)}) {
      for (const std::int64_t rows : {1, 3}) {
        CHECK_ATTENTION(.rows = rows, .length = length, .mask = MaskKind::kFloat, .addend = addend);
        CHECK_ATTENTION(.rows = rows, .length = length, .dtype = DType::kBFloat16, .mask = MaskKind::kOwn,
                        .addend = addend);
      }
    }
  }
}

// What no row sees is not read, whatever the capacity of a cache.
TEST(kernels_attention, unseen_blocks_are_not_read) {
  const auto seen = [](std::int64_t t) { return t < 41 || (t >= 300 && t < 310); };
  const auto in_blocks = [](std::int64_t t) { return t >= 64 && (t < 288 || t >= 320); };
  for (const std::int64_t length : {420, 900}) {
    for (const double unseen : {-kInfinity, -0x1p127}) {
      for (const MaskKind mask : kMasks) {
        const auto addend = [&](std::int64_t, std::int64_t, std::int64_t, std::int64_t t) {
          return seen(t) ? 0.0 : unseen;
        };
        // What is far below is added to a score; what is not seen counts for nothing beside what is, either.
        const bool nowhere = unseen == -kInfinity || mask == MaskKind::kBool;
        const auto nan_elsewhere = [&](std::int64_t t) { return nowhere ? !seen(t) : in_blocks(t); };
        CHECK_ATTENTION(.rows = 2, .length = length, .dtype = DType::kBFloat16, .mask = mask,
                        .addend = addend, .poisoned = nan_elsewhere);
      }
    }
  }
  for (const std::int64_t length : {420, 900}) {
    CHECK_ATTENTION(
            .rows = 4, .length = length, .causal = true, .poisoned = [](std::int64_t t) { return t >= 32; });
  }
}

// By any of the kernels: the cost of a step is that of what it sees, not of the cache's capacity.
TEST(kernels_attention, nothing_is_read_beyond_what_is_seen) {
  for (const std::int64_t rows : {1, 20}) {
    for (const std::int64_t value_width : {16, 300}) {
      for (const std::int64_t length : {400, 900}) {
        const auto check = [&](AttentionProblem p) {
          p.batch = p.heads = p.groups = 1;
          p.rows = rows;
          p.length = length;
          p.value_width = value_width;
          p.readable = 64;
          check_attention(p, __LINE__);
        };
        check({.causal = true});
        for (const double unseen : {-kInfinity, -0x1p127}) {
          for (const MaskKind mask : kMasks) {
            if (value_width > 256 && unseen > -kInfinity && mask != MaskKind::kBool) continue;  // rare enough
            check({.dtype = DType::kBFloat16,
                   .mask = mask,
                   .addend = [&](std::int64_t, std::int64_t, std::int64_t s, std::int64_t t) {
                     return t < 40 + s ? 0 : unseen;
                   }});
          }
        }
      }
    }
  }
}

TEST(kernels_attention, strides) {
  for (const DType dtype : kFloatTypes) {
    for (const Layout q : kReadLayouts) {
      for (const Layout other : kReadLayouts) {
        CHECK_ATTENTION(.rows = 2, .length = 35, .dtype = dtype, .q = q, .k = other, .v = q, .out = other);
        CHECK_ATTENTION(.rows = 2, .length = 35, .value_width = 24, .dtype = dtype, .q = other, .k = q,
                        .v = other, .out = q);
      }
    }
  }
}

TEST(kernels_attention, infinities_and_nan) {
  for (const std::int64_t length : {40, 700}) {
    Tensor q = random(DType::kFloat32, {1, 1, 2, 8}), k = random(DType::kFloat32, {1, 1, length, 8});
    Tensor v = random(DType::kFloat32, {1, 1, length, 4}), out(DType::kFloat32, {1, 1, 2, 4});
    q.set({0, 0, 0, 3}, std::nan(""));
    GpuRun run;
    run_gpu(gpu::make_attention, OpKind::kAttention, AttentionAttrs{0.5, false, {}}, {&q, &k, &v}, {&out},
            run);
    for (std::int64_t e = 0; e < 4; ++e) {
      CHECK(std::isnan(out.get({0, 0, 0, e})));
      CHECK(std::isfinite(out.get({0, 0, 1, e})));
    }
  }
}

TEST(kernels_attention, tiles_of_any_size) {
  for (const DType dtype : kFloatTypes) {
    for (const std::int64_t width : {3, 20, 33, 64, 80, 100, 128, 130}) {
      for (const bool causal : {false, true}) {
        const GpuRun run = CHECK_ATTENTION(.batch = 1, .heads = 4, .rows = 19, .length = 45, .width = width,
                                           .value_width = width, .dtype = dtype, .causal = causal);
        CHECK_EQ(run.kernel, "attention[tiles]");
      }
    }
    CHECK_ATTENTION(.batch = 1, .heads = 2, .groups = 1, .rows = 30, .length = 70, .width = 256,
                    .value_width = 256, .dtype = dtype, .tolerance = 10);
    CHECK_ATTENTION(.heads = 2, .groups = 1, .rows = 70, .length = 33, .width = 250, .value_width = 9,
                    .dtype = dtype, .causal = true);
    CHECK_ATTENTION(.heads = 3, .groups = 3, .rows = 40, .length = 100, .width = 16, .value_width = 97,
                    .dtype = dtype);
    CHECK_ATTENTION(.rows = 33, .length = 1, .dtype = dtype);
    CHECK_ATTENTION(.heads = 2, .rows = 32, .length = 40, .dtype = dtype);  // just one block
  }
}

TEST(kernels_attention, masks_of_tiles) {
  const auto graded = [](std::int64_t n, std::int64_t h, std::int64_t s, std::int64_t t) {
    return t % 7 == 3 || t / 32 == s % 4 ? -kInfinity
                                         : 0.25 * static_cast<double>((n + 2 * h + 3 * s + t) % 9);
  };
  const auto upper = [](std::int64_t n, std::int64_t, std::int64_t s, std::int64_t t) {
    return t > s + 20 || (s == 17 && n == 0) ? -kInfinity : 0;
  };
  for (const DType dtype : kFloatTypes) {
    for (const MaskKind mask : kMasks) {
      for (const bool per_head : {false, true}) {
        CHECK_ATTENTION(.rows = 20, .length = 130, .dtype = dtype, .mask = mask, .addend = scattered,
                        .mask_per_head = per_head, .nan = per_head);
      }
      CHECK_ATTENTION(.heads = 2, .rows = 40, .length = 75, .dtype = dtype, .mask = mask, .addend = upper,
                      .nan = mask == MaskKind::kOwn);
      if (mask != MaskKind::kBool)
        CHECK_ATTENTION(.rows = 18, .length = 70, .dtype = dtype, .mask = mask, .addend = graded,
                        .mask_per_head = true);
    }
  }
}

TEST(kernels_attention, tiles_and_masks_that_are_far_below) {
  constexpr double kLeast = -0x1.fep127;
  const auto below = [](std::int64_t n, std::int64_t, std::int64_t s, std::int64_t t) {
    if (s % 11 == 3) return n == 0 || t % 5 > 0 ? kLeast : -kInfinity;  // a row with nothing else
    return t < 40 + s && t != 1 ? (t < 33 && s == 2 ? kLeast : 0) : kLeast;
  };
  const auto late = [](std::int64_t, std::int64_t, std::int64_t s, std::int64_t t) {
    return t > 69 + s ? -2 : kLeast;
  };
  for (const auto& addend : {Addend(below), Addend(late)}) {
    CHECK_ATTENTION(.rows = 22, .length = 110, .mask = MaskKind::kFloat, .addend = addend);
    CHECK_ATTENTION(.rows = 22, .length = 110, .dtype = DType::kBFloat16, .mask = MaskKind::kOwn,
                    .addend = addend);
  }
}

TEST(kernels_attention, tiles_leave_out_what_is_not_seen) {
  CHECK_ATTENTION(
          .heads = 2, .rows = 20, .length = 120, .causal = true,
          .poisoned = [](std::int64_t t) { return t >= 32; });
  for (const double unseen : {-kInfinity, -0x1p127}) {
    const auto window = [&](std::int64_t, std::int64_t, std::int64_t s, std::int64_t t) {
      return t >= 66 && t < 70 + s ? 0 : unseen;
    };
    for (const MaskKind mask : kMasks) {
      CHECK_ATTENTION(
              .heads = 2, .rows = 20, .length = 150, .dtype = DType::kBFloat16, .mask = mask,
              .addend = window, .poisoned = [](std::int64_t t) { return t < 64 || t >= 96; });
    }
  }
}

TEST(kernels_attention, tiles_of_any_strides) {
  for (const DType dtype : kFloatTypes) {
    for (const Layout q : kReadLayouts) {
      for (const Layout other : kReadLayouts) {
        CHECK_ATTENTION(.batch = 2, .heads = 2, .groups = 1, .rows = 17, .length = 35, .dtype = dtype, .q = q,
                        .k = other, .v = q, .out = other);
        CHECK_ATTENTION(.heads = 2, .rows = 17, .length = 35, .value_width = 24, .dtype = dtype, .q = other,
                        .k = q, .v = other, .out = q);
      }
    }
  }
}

TEST(kernels_attention, without_matrices) {
  gpu::Caps caps;
  caps.matrices = false;
  CHECK_ATTENTION(.rows = 20, .length = 50, .causal = true, .caps = caps);
}

TEST(kernels_attention, any_problem) {
  std::uint64_t state = 20261121;
  const auto pick = [&](std::int64_t low, std::int64_t high) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return low + static_cast<std::int64_t>((state >> 33) % static_cast<std::uint64_t>(high - low + 1));
  };
  const auto layout = [&] { return pick(0, 2) > 0 ? Layout::kDense : kReadLayouts[pick(0, 3)]; };
  constexpr MaskKind kKinds[] = {MaskKind::kNone, MaskKind::kBool, MaskKind::kFloat, MaskKind::kOwn};
  for (int i = 0; i < 60; ++i) {
    AttentionProblem p;
    p.batch = pick(1, 2);
    p.groups = pick(1, 3);
    p.heads = p.groups * pick(1, 9);
    p.rows = pick(0, 1) == 0 ? pick(1, 9) : pick(10, 50);
    p.length = pick(0, 3) > 0 ? pick(1, 90) : pick(500, 600);
    p.width = pick(0, 1) == 0 ? 8 * pick(1, 17) : pick(1, 140);
    p.value_width = pick(0, 1) == 0 ? p.width : pick(1, 80);
    p.dtype = kFloatTypes[pick(0, 2)];
    p.q = layout();
    p.k = layout();
    p.v = layout();
    p.out = layout();
    p.mask = kKinds[pick(0, 3)];
    p.mask_per_head = pick(0, 1) == 1;
    p.causal = p.mask == MaskKind::kNone && pick(0, 1) == 1;
    p.nan = pick(0, 1) == 1;
    p.caps.cores = static_cast<int>(pick(1, 40));
    p.tolerance = 8;
    const std::int64_t every = pick(2, 9), until = pick(0, p.length);
    const double unseen = pick(0, 2) > 0 ? -kInfinity : p.mask == MaskKind::kOwn ? -60000 : -0x1p127;
    p.addend = [=](std::int64_t n, std::int64_t h, std::int64_t s, std::int64_t t) {
      return (n + 2 * h + 3 * s + t) % every == 0 || t > until + s ? unseen : 0;
    };
    check_attention(p, i);
  }
}

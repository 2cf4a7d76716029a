#include "gpu/ops/launch.h"

#include <bit>

namespace npu::gpu {

namespace {

// Whether rows, and the distances between them, are made of words of `many` elements.
bool in_words(const Nest& nest, const Shape& further, std::int64_t many) {
  const auto last = static_cast<std::size_t>(nest.rank - 1);
  if (nest.extent[last] % many != 0) return false;
  for (const std::int64_t step : further) {
    if (step % many != 0) return false;
  }
  for (std::size_t k = 0; k < 2; ++k) {
    for (std::size_t d = 0; d < last; ++d) {
      if (nest.strides[k][d] % many != 0) return false;
    }
  }
  return true;
}

}  // namespace

Nest without_dim(const Nest& nest, int dim) {
  Shape shape;
  std::vector<Shape> strides(nest.strides.size());
  for (int d = 0; d < nest.rank; ++d) {
    if (d == dim) continue;
    shape.push_back(nest.extent[static_cast<std::size_t>(d)]);
    for (std::size_t k = 0; k < strides.size(); ++k)
      strides[k].push_back(nest.strides[k][static_cast<std::size_t>(d)]);
  }
  return make_nest(shape, strides, false);
}

std::string Moved::function(std::string_view kernel) const {
  const std::string_view words[] = {"uchar", "ushort", "uint", "ulong"};
  return std::string(kernel) + "_" + std::string(words[std::countr_zero(word)]);
}

Moved moved(const Nest& nest, DType dtype, int alignment, const Shape& further) {
  Moved result{nest, size_of(dtype), dense(nest, 0) && dense(nest, 1)};
  if (!result.dense) return result;
  const auto last = static_cast<std::size_t>(nest.rank - 1);
  const auto scale = [&](std::int64_t times, std::int64_t by) {
    result.nest.extent[last] = nest.extent[last] * times / by;
    for (std::size_t k = 0; k < 2; ++k) {
      for (std::size_t d = 0; d < last; ++d) result.nest.strides[k][d] = nest.strides[k][d] * times / by;
    }
  };
  for (const std::size_t word : {std::size_t{4}, std::size_t{2}}) {
    if (static_cast<std::size_t>(alignment) < word) continue;
    const auto many = static_cast<std::int64_t>(word / result.word);
    if (result.word > word) {
      scale(static_cast<std::int64_t>(result.word / word), 1);
    } else if (in_words(nest, further, many)) {
      scale(1, many);
    } else {
      continue;
    }
    result.word = word;
    break;
  }
  return result;
}

Dispatch& over_rows(Dispatch& launch, std::int64_t columns, std::int64_t rows) {
  constexpr std::uint32_t kThreads = 256;
  const auto wide = static_cast<std::uint32_t>(std::clamp<std::int64_t>(columns, 1, kThreads));
  const std::uint32_t x = std::bit_ceil(wide), y = kThreads / x;
  return launch.grid({ceil_div(columns, x), ceil_div(rows, y), 1}, {x, y, 1});
}

}  // namespace npu::gpu

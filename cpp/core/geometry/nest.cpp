#include "core/geometry/nest.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <numeric>

namespace npu {

std::int64_t product(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

Nest make_nest(const Shape& shape, const std::vector<Shape>& strides, bool reorder) {
  std::vector<int> order;
  for (int d = 0; d < static_cast<int>(shape.size()); ++d) {
    if (shape[d] != 1) order.push_back(d);
  }
  if (reorder && !strides.empty()) {
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return std::abs(strides[0][a]) > std::abs(strides[0][b]); });
  }
  Nest nest;
  nest.strides.resize(strides.size());
  int rank = 0;
  for (const int d : order) {
    bool merges = rank > 0;
    for (std::size_t k = 0; k < strides.size() && merges; ++k) {
      merges = nest.strides[k][rank - 1] == strides[k][d] * shape[d];
    }
    if (!merges) ++rank;
    nest.extent[rank - 1] = merges ? nest.extent[rank - 1] * shape[d] : shape[d];
    for (std::size_t k = 0; k < strides.size(); ++k) nest.strides[k][rank - 1] = strides[k][d];
  }
  if (rank == 0) {  // one element
    rank = 1;
    nest.extent[0] = 1;
    for (auto& s : nest.strides) s[0] = 1;
  }
  nest.rank = rank;
  for (int d = 0; d < rank - 1; ++d) nest.rows *= nest.extent[d];
  if (nest.extent[rank - 1] == 0) nest.rows = 0;
  return nest;
}

Shape without(const Shape& shape, const std::vector<bool>& drop) {
  Shape kept;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (!drop[d]) kept.push_back(shape[d]);
  }
  return kept;
}

std::vector<bool> only_axis(std::size_t rank, std::int64_t axis) {
  std::vector<bool> chosen(rank, false);
  if (rank > 0) chosen[static_cast<std::size_t>(axis)] = true;
  return chosen;
}

}  // namespace npu

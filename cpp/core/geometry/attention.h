// The shapes of attention, and which rows of q share keys and values.
#pragma once

#include "core/plan/kernel.h"

namespace npu {

// Heads of q come in groups, one for each head of k and v. Rows are numbered within a group, the head varying
// fastest, so that a range of rows is a narrow range of positions whose heads all read the same keys.
struct AttentionGeometry {
  std::int64_t batch = 0, heads = 0, groups = 1;
  std::int64_t queries = 0, keys = 0;       // positions of a head
  std::int64_t width = 0, value_width = 0;  // of q and k; of v and the result

  std::int64_t heads_of_group() const { return heads / groups; }
  std::int64_t rows_of_group() const { return heads_of_group() * queries; }
  std::int64_t head(std::int64_t group, std::int64_t row) const {
    return group * heads_of_group() + row % heads_of_group();
  }
  std::int64_t position(std::int64_t row) const { return row / heads_of_group(); }
};

inline AttentionGeometry attention_geometry(const TensorDesc& q, const TensorDesc& k, const TensorDesc& v) {
  return {q.shape[0], q.shape[1], k.shape[1], q.shape[2], k.shape[2], q.shape[3], v.shape[3]};
}

}  // namespace npu

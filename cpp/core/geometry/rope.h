// The shapes of rotary positions, and of the keys and values that go with them.
#pragma once

#include "core/plan/kernel.h"

namespace npu {

struct RopeGeometry {
  std::int64_t batch = 0, heads = 0, length = 0, width = 0;  // of what is rotated; length: rows of a head
  std::int64_t rotated = 0;                                  // the first elements of a row
  std::int64_t key_heads = 0;                                // 0: there is no key
  std::int64_t value_heads = 0, value_width = 0;             // 0: there is no value
  std::int64_t all_heads() const { return heads + key_heads + value_heads; }
};

inline RopeGeometry rope_geometry(const TensorDesc& x, const TensorDesc& cos, const TensorDesc& key,
                                  const TensorDesc& value) {
  RopeGeometry g{x.shape[0], x.shape[1], x.shape[2], x.shape[3], cos.shape[3]};
  if (key.present()) g.key_heads = key.shape[1];
  if (value.present()) {
    g.value_heads = value.shape[1];
    g.value_width = value.shape[3];
  }
  return g;
}

}  // namespace npu

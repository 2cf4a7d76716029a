// Nests as kernels read them.
#pragma once

#include "../../metal/args.h"
#include "nest.h"

namespace npu::gpu {

inline Nest2 nest2(const Nest& nest) {
  Nest2 args{};
  args.rank = nest.rank;
  args.rows = static_cast<std::int32_t>(nest.rows);
  for (int d = 0; d < nest.rank; ++d) {
    const auto i = static_cast<std::size_t>(d);
    args.extent[d] = static_cast<std::int32_t>(nest.extent[i]);
    args.first[d] = nest.strides[0][i];
    args.second[d] = nest.strides.size() > 1 ? nest.strides[1][i] : 0;
  }
  return args;
}

}  // namespace npu::gpu

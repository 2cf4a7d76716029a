#include "gpu/ops/indexed.h"

namespace npu::gpu {

namespace {

IndexType index_type(DType dtype) {
  switch (dtype) {
    case DType::kInt8:
      return IndexType::kByte;
    case DType::kInt16:
      return IndexType::kShort;
    case DType::kInt32:
      return IndexType::kInt;
    case DType::kUInt8:
      return IndexType::kUnsignedByte;
    default:
      return IndexType::kLong;
  }
}

}  // namespace

void fill_axes(IndexedAxis* args, const std::vector<IndexAxis>& axes, DType dtype, std::size_t word) {
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  for (const IndexAxis& axis : axes) {
    *args++ = {.extent = axis.extent,
               .step = axis.stride * size / static_cast<std::int64_t>(word),
               .dimension = static_cast<std::int32_t>(axis.dimension),
               .type = index_type(axis.dtype)};
  }
}

Shape axis_strides(const std::vector<IndexAxis>& axes) {
  Shape strides;
  for (const IndexAxis& axis : axes) strides.push_back(axis.stride);
  return strides;
}

void bind_indices(Dispatch& launch, const Request& r, std::size_t axes, int first_index, bool wrap) {
  launch.constant(kFcIndexedAxes, static_cast<std::int32_t>(axes)).constant(kFcIndexedWrap, wrap);
  launch.status(kBufferIndexedStatus);
  for (int k = 0; k < static_cast<int>(axes); ++k) launch.input(kBufferIndices + k, first_index + k, r);
}

}  // namespace npu::gpu

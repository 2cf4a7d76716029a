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

Shape place_strides(const Shape& positions, const TensorDesc& other, const std::vector<std::int64_t>& dims) {
  Shape place(positions.size(), 0);
  for (std::size_t d = 0; d < dims.size(); ++d) {
    if (dims[d] >= 0) place[static_cast<std::size_t>(dims[d])] += other.strides[d];
  }
  return place;
}

void fill_axes(IndexedAxis* axes, const Request& r, const TensorDesc& other,
               const std::vector<std::int64_t>& indexed, int first_index, std::size_t word) {
  const auto size = static_cast<std::int64_t>(size_of(other.dtype));
  for (std::size_t k = 0; k < indexed.size(); ++k) {
    const auto d = static_cast<std::size_t>(indexed[k]);
    axes[k] = {.extent = other.shape[d],
               .step = other.strides[d] * size / static_cast<std::int64_t>(word),
               .dimension = static_cast<std::int32_t>(d),
               .type = index_type(r.inputs[static_cast<std::size_t>(first_index) + k].dtype)};
  }
}

Shape axis_steps(const TensorDesc& other, const std::vector<std::int64_t>& indexed) {
  Shape steps;
  for (const std::int64_t axis : indexed) steps.push_back(other.strides[static_cast<std::size_t>(axis)]);
  return steps;
}

bool whole_rows(const Nest& nest) {
  for (std::size_t k = 2; k < nest.strides.size(); ++k) {
    if (nest.step(static_cast<int>(k)) != 0 && nest.inner() > 1) return false;
  }
  return true;
}

void bind_indices(Dispatch& launch, const Request& r, std::size_t axes, int first_index, bool wrap) {
  launch.constant(0, static_cast<std::int32_t>(axes)).constant(1, wrap).status(3);
  for (int k = 0; k < static_cast<int>(axes); ++k) launch.input(4 + k, first_index + k, r);
}

}  // namespace npu::gpu

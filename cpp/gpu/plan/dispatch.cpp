#include "gpu/plan/dispatch.h"

#include <bit>

namespace npu::gpu {

namespace {

// The bytes that a view reaches. A binding starts with the lowest of them, which is the first element's
// unless strides are negative: see bytes_before.
void reach(BufferUse& use, const TensorDesc& desc) {
  std::int64_t low = 0, high = 0;
  for (std::size_t d = 0; d < desc.shape.size(); ++d) {
    if (desc.shape[d] == 0) return;
    const std::int64_t far = desc.strides[d] * (desc.shape[d] - 1);
    (far < 0 ? low : high) += far;
  }
  const auto size = static_cast<std::int64_t>(size_of(desc.dtype));
  use.offset = low * size;
  use.high = (high + 1 - low) * size;
}

BufferUse use_of(int slot, From from, int index, const TensorDesc& desc) {
  BufferUse use{.slot = slot};
  if (!desc.present()) return use;
  use.from = from;
  use.index = index;
  use.constant = desc.constant;
  reach(use, desc);
  return use;
}

}  // namespace

std::int64_t bytes_before(const TensorDesc& desc) {
  BufferUse use;
  reach(use, desc);
  return -use.offset;
}

Dispatch& Dispatch::constant(int index, bool value) {
  constants.push_back({index, FunctionConstant::Type::kBool, value ? 1 : 0});
  return *this;
}

Dispatch& Dispatch::constant(int index, std::int32_t value) {
  constants.push_back({index, FunctionConstant::Type::kInt, value});
  return *this;
}

Dispatch& Dispatch::constant(int index, float value) {
  constants.push_back({index, FunctionConstant::Type::kFloat, std::bit_cast<std::int32_t>(value)});
  return *this;
}

Dispatch& Dispatch::input(int slot, int index, const KernelRequest& request) {
  BufferUse use = use_of(slot, From::kInput, index, request.inputs[static_cast<std::size_t>(index)]);
  use.reads = use.from == From::kInput;
  buffers.push_back(use);
  return *this;
}

Dispatch& Dispatch::output(int slot, int index, const KernelRequest& request) {
  BufferUse use = use_of(slot, From::kOutput, index, request.outputs[static_cast<std::size_t>(index)]);
  use.writes = use.from == From::kOutput;
  buffers.push_back(use);
  return *this;
}

Dispatch& Dispatch::update(int slot, int index, const KernelRequest& request) {
  output(slot, index, request);
  buffers.back().reads = buffers.back().writes;
  return *this;
}

Dispatch& Dispatch::scratch(int slot, std::int64_t offset, std::int64_t bytes, bool reads, bool writes) {
  buffers.push_back({.slot = slot,
                     .from = From::kScratch,
                     .offset = offset,
                     .high = bytes,
                     .reads = reads,
                     .writes = writes});
  return *this;
}

Dispatch& Dispatch::packed(int slot, std::int64_t bytes) {
  buffers.push_back({.slot = slot, .from = From::kPacked, .high = bytes, .reads = true, .constant = true});
  return *this;
}

Dispatch& Dispatch::status(int slot) {
  buffers.push_back({.slot = slot, .from = From::kStatus});
  return *this;
}

Dispatch& Dispatch::nothing(int slot) {
  buffers.push_back({.slot = slot});
  return *this;
}

Dispatch& Dispatch::unless_same(int output, int input) {
  same_output = output;
  same_input = input;
  return *this;
}

Dispatch& Dispatch::grid(Size groups_, Size threads_) {
  groups = groups_;
  threads = threads_;
  return *this;
}

}  // namespace npu::gpu

// The kernel of a GPU on the software shader machine, and the CPU's, on the same tensors.
#pragma once

#include <initializer_list>

#include "support/gpu_machine.h"

namespace npu::test {

// What a GPU's kernels read as it lies; negative strides are copied before, by kernels of copy.
inline constexpr Layout kReadLayouts[] = {Layout::kDense, Layout::kChannelsLast, Layout::kReversed,
                                          Layout::kSpaced};
inline constexpr DType kFloatTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};
inline constexpr DType kAllTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16,
                                      DType::kInt8,    DType::kInt16,   DType::kInt32,
                                      DType::kInt64,   DType::kUInt8,   DType::kBool};

struct Subject {
  Maker cpu;
  GpuMaker gpu;
  OpKind kind;
};

// Both kernels fill these outputs; they must agree to `tolerance` epsilons, or exactly for 0. Null operands
// are absent. Returns the run of the GPU, for further questions.
inline GpuRun agree(const Subject& subject, const Attrs& attrs, std::vector<Tensor*> inputs,
                    std::vector<Tensor*> outputs, double tolerance, const char* file, int line,
                    gpu::Caps caps = {}, std::vector<gpu::FunctionConstant> constants = {}) {
  std::vector<Tensor> expected;
  for (Tensor* t : outputs) expected.push_back(t == nullptr ? Tensor() : *t);
  std::vector<Tensor*> wanted;
  for (std::size_t i = 0; i < outputs.size(); ++i)
    wanted.push_back(outputs[i] == nullptr ? nullptr : &expected[i]);
  run_op(subject.cpu, subject.kind, attrs, inputs, wanted);
  GpuRun run{.caps = std::move(caps), .constants = std::move(constants)};
  run_gpu(subject.gpu, subject.kind, attrs, inputs, outputs, run);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i] == nullptr) continue;
    const auto exact = [&](const Shape& index) { return expected[i].get(index); };
    check_tensor(*outputs[i], exact, file, line, is_float(outputs[i]->dtype) ? tolerance : 0);
  }
  return run;
}
#define AGREE(subject, attrs, inputs, outputs, tolerance, ...) \
  npu::test::agree(subject, attrs, inputs, outputs, tolerance, __FILE__, __LINE__ __VA_OPT__(, ) __VA_ARGS__)

using Operands = std::vector<Tensor*>;

}  // namespace npu::test

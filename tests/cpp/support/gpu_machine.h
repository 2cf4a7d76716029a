// Kernels of GPUs, run by the software shader machine on tensors of a test: every launch as it would be
// encoded, with every access checked.
#pragma once

#include <cstdlib>
#include <map>
#include <memory>
#include <numeric>

#include "c_api.h"
#include "gpu/device/kernel_sources.h"
#include "gpu/ops/ops.h"
#include "gpu/plan/gpu_kernel.h"
#include "support/cpu_cases.h"

namespace npu::test {

using GpuMaker = std::unique_ptr<gpu::GpuKernel> (*)(const gpu::Request&);

struct GpuRun {
  gpu::Caps caps{};
  bool checked = true;
  int constant_input = -1;                         // what packing may take
  std::vector<gpu::FunctionConstant> constants{};  // instead of what was chosen for them
  std::map<int, std::size_t> readable{};           // inputs of which only the first bytes may be touched
  std::vector<const Op*> fused{};                  // ops that the same kernel does on its way
  std::string kernel{};                            // its name, afterwards; empty: the maker wanted none
  std::size_t launches = 0;
  std::string error{};  // what the machine refused
  std::array<std::byte, 16> status{};
};

inline void* open_library(const gpu::Dispatch& launch) {
  static std::map<std::string, void*> libraries;
  const std::string source = gpu::kernel_source(launch.library, launch.prologue);
  void*& library = libraries[source];
  if (library == nullptr) {
    const std::string name = launch.library.empty() ? "generated" : launch.library;
    library = softmetal_open(source.c_str(), name.c_str(), "", "");
    if (library == nullptr) report_failure(__FILE__, __LINE__, softmetal_error() + ("\n" + launch.prologue));
  }
  return library;
}

struct GpuMemory {
  const std::vector<Tensor*>&inputs, &outputs;
  std::vector<std::byte>&scratch, &packed, &status;
  const std::map<int, std::size_t>& readable;
};

// What a slot is bound to: from the first byte that may be touched to the last.
inline softmetal_buffer bind(const gpu::BufferUse& use, const GpuMemory& memory) {
  static std::byte nothing[64];
  std::byte* base = nullptr;
  switch (use.from) {
    case gpu::From::kInput:
      base = static_cast<std::byte*>(memory.inputs[static_cast<std::size_t>(use.index)]->first());
      break;
    case gpu::From::kOutput:
      base = static_cast<std::byte*>(memory.outputs[static_cast<std::size_t>(use.index)]->first());
      break;
    case gpu::From::kScratch:
      base = memory.scratch.data();
      break;
    case gpu::From::kPacked:
      base = memory.packed.data();
      break;
    case gpu::From::kStatus:
      return {memory.status.data(), memory.status.size(), 1};
    default:  // something, but nothing to read
      return {nothing, sizeof nothing, 0};
  }
  if (base == nullptr) return {nothing, sizeof nothing, 0};  // no elements
  std::size_t bytes = static_cast<std::size_t>(use.high);
  if (use.from == gpu::From::kInput && memory.readable.contains(use.index))
    bytes = std::min(bytes, memory.readable.at(use.index));
  return {base + use.offset, bytes, use.from != gpu::From::kScratch || use.reads};
}

// Kernels leave alone what is beyond their work, whatever the grid: here it is larger than planned along one
// of the dimensions that are used, another one each time.
inline gpu::Size larger(gpu::Size groups) {
  static std::size_t launches = 0;
  const std::size_t first = launches++;
  for (std::size_t k = 0; k < 3; ++k) {
    std::uint32_t& along = groups[(first + k) % 3];
    if (along == 1) continue;
    ++along;
    break;
  }
  return groups;
}

inline std::string run_launch(const gpu::Dispatch& launch, const GpuMemory& memory, bool checked) {
  std::array<softmetal_buffer, 31> buffers{};
  std::vector<std::byte> args = launch.args;
  buffers[0] = {args.data(), args.size(), 1};
  for (const gpu::BufferUse& use : launch.buffers) {
    buffers[static_cast<std::size_t>(use.slot)] = bind(use, memory);
  }
  std::vector<softmetal_constant> constants;
  for (const auto& c : launch.constants) {
    const bool is_bool = c.type == gpu::FunctionConstant::Type::kBool;
    constants.push_back({static_cast<unsigned>(c.index), nullptr, &c.bits, is_bool ? 1u : 4u});
  }
  softmetal_launch call{};
  call.kernel = launch.function.c_str();
  call.checked = checked ? 1 : 0;
  call.buffers = buffers.data();
  call.buffer_count = buffers.size();
  call.constants = constants.data();
  call.constant_count = constants.size();
  const auto room = static_cast<std::size_t>(launch.threadgroup_bytes);
  call.threadgroup_bytes = &room;
  call.threadgroup_count = room > 0 ? 1 : 0;
  const gpu::Size groups = larger(launch.groups);
  for (std::size_t d = 0; d < 3; ++d) {
    call.grid[d] = groups[d] * launch.threads[d];
    call.threads[d] = launch.threads[d];
  }
  const char* error = softmetal_run(open_library(launch), &call);
  return error ? launch.function + ": " + error : std::string();
}

// Makes a kernel and runs its launches in order.
inline void run_gpu(GpuMaker make, OpKind kind, const Attrs& attrs, const std::vector<Tensor*>& inputs,
                    const std::vector<Tensor*>& outputs, GpuRun& run) {
  Op op;
  op.kind = kind;
  op.name = "tested";
  op.attrs = attrs;
  gpu::Request request{{op, {}, {}, 1, run.fused}, run.caps};
  for (Tensor* t : inputs) {
    request.inputs.push_back(describe(t));
    request.inputs.back().alignment = t && reinterpret_cast<std::uintptr_t>(t->first()) % 16 == 0 ? 16 : 1;
  }
  if (run.constant_input >= 0) request.inputs[static_cast<std::size_t>(run.constant_input)].constant = true;
  for (Tensor* t : outputs) {
    request.outputs.push_back(describe(t));
    request.outputs.back().alignment = t && reinterpret_cast<std::uintptr_t>(t->first()) % 16 == 0 ? 16 : 1;
  }
  const auto kernel = make(request);
  if (!kernel) return;
  run.kernel = kernel->name();
  run.launches = kernel->dispatches().size();
  std::vector<std::byte> scratch(kernel->scratch_bytes()), packed(kernel->packed_bytes()), status(16);
  if (kernel->packed_input() >= 0) {
    ThreadPool pool(1);
    kernel->pack(inputs[static_cast<std::size_t>(kernel->packed_input())]->first(), packed.data(), pool);
  }
  const GpuMemory memory{inputs, outputs, scratch, packed, status, run.readable};
  for (gpu::Dispatch launch : kernel->dispatches()) {
    for (const gpu::FunctionConstant& wanted : run.constants) {
      for (gpu::FunctionConstant& chosen : launch.constants)
        if (chosen.index == wanted.index) chosen = wanted;
    }
    if (launch.same_output >= 0 && outputs[static_cast<std::size_t>(launch.same_output)] ==
                                       inputs[static_cast<std::size_t>(launch.same_input)])
      continue;
    run.error = run_launch(launch, memory, run.checked);
    if (!run.error.empty()) {
      report_failure(__FILE__, __LINE__, run.error);
      return;
    }
  }
  std::copy(status.begin(), status.end(), run.status.begin());
}

}  // namespace npu::test

// What a device makes of one op: a kernel with its geometry decided.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/program/program.h"

namespace npu {

class ThreadPool;

// An operand as it lies in memory: strides are physical, in elements; `constant` says that its content is
// fixed before the first run (weights, constants, prepared values).
struct TensorDesc {
  DType dtype = DType::kFloat32;
  Shape shape;
  Shape strides;
  bool constant = false;
  int alignment = 16;  // of the first element's address, in bytes: a power of two, at most 16
  bool present() const { return present_; }
  bool present_ = false;
  std::int64_t elements() const;
};

struct KernelRequest {
  const Op& op;
  std::vector<TensorDesc> inputs;   // as in op.inputs
  std::vector<TensorDesc> outputs;  // as in op.outputs
  int threads = 1;                  // the most that run() may use
  // Ops that the kernel may do on its way, the nearest first; `op` and the operands are those that fusion.h
  // joins. It says by fused_ops() that it does them.
  std::vector<const Op*> fused{};
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual std::string name() const = 0;                    // as in plans and profiles
  virtual std::size_t scratch_bytes() const { return 0; }  // in all, 64-byte aligned
  virtual std::size_t fused_ops() const { return 0; }      // of request.fused

  // A constant input that the kernel wants in a form of its own. The raw tensor is not read by run() then.
  virtual int packed_input() const { return -1; }
  virtual std::size_t packed_bytes() const { return 0; }
  virtual std::string packing() const { return {}; }  // equal names with equal inputs give equal bytes
  virtual void pack(const void* /*raw*/, std::byte* /*packed*/, ThreadPool& /*pool*/) const {}

  virtual double flops() const { return 0; }
  virtual double bytes() const { return 0; }  // 0: the sum of the operands
};

// Pointers to the first element of each operand (offsets of views are applied), in the order of the request;
// null when absent. `packed` is what pack() wrote, or null.
struct KernelArgs {
  const void* const* inputs;
  void* const* outputs;
  std::byte* scratch;
  const std::byte* packed;
};

// One that runs where it is called.
class HostKernel : public Kernel {
 public:
  virtual void run(const KernelArgs& args, ThreadPool& pool) const = 0;  // allocates nothing
};

}  // namespace npu

#include "cpu/ops/ops.h"
#include "cpu/strided.h"

namespace npu::cpu {

namespace {

class Copy : public HostKernel {
 public:
  explicit Copy(const KernelRequest& r)
      : copy_(r.outputs[0].shape, r.outputs[0].strides, r.inputs[0].strides, size_of(r.outputs[0].dtype),
              r.threads) {}
  std::string name() const override { return copy_.dense() ? "copy" : "copy[strided]"; }
  void run(const KernelArgs& args, ThreadPool& pool) const override {
    if (args.outputs[0] != args.inputs[0] || !copy_.same_layout())
      copy_.run(args.outputs[0], args.inputs[0], pool);
  }

 private:
  StridedCopy copy_;
};

}  // namespace

KernelPtr make_copy(const KernelRequest& request) { return std::make_unique<Copy>(request); }

}  // namespace npu::cpu

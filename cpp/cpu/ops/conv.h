// What the kinds of convolution share.
#pragma once

#include "cpu/ops/conv_operands.h"
#include "cpu/ops/ops.h"

namespace npu::cpu {

inline ConvGeometry geometry_of(const KernelRequest& r) {
  return conv_geometry(std::get<ConvAttrs>(r.op.attrs), r.inputs[0], r.inputs[1], r.outputs[0]);
}

class ConvBase : public HostKernel {
 public:
  explicit ConvBase(const KernelRequest& r)
      : request_(r),
        inputs_(r.inputs),
        outputs_(r.outputs),
        g_(geometry_of(r)),
        micro_(&micro()),
        epilogue_(std::get<ConvAttrs>(r.op.attrs).epilogue, {r.inputs.begin() + 3, r.inputs.end()},
                  r.outputs[0], 1),
        threads_(r.threads) {}

  double flops() const override {
    return 2.0 * static_cast<double>(g_.pixels() * g_.out_channels * g_.depth());
  }

 protected:
  KernelRequest request_;
  std::vector<TensorDesc> inputs_, outputs_;
  ConvGeometry g_;
  const Micro* micro_;
  Epilogue epilogue_;
  int threads_;
};

// Whether a conv is as fast where channels do not come last: in its input, and in its result.
bool reads_planes(const KernelRequest& request);
bool writes_planes(const KernelRequest& request);
bool is_direct(const KernelRequest& request);
bool is_direct_of_planes(const KernelRequest& request);
KernelPtr make_direct_conv(const KernelRequest& request);
bool is_spread(const KernelRequest& request);
KernelPtr make_spread_conv(const KernelRequest& request);
bool is_planar(const KernelRequest& request);
KernelPtr make_planar_conv(const KernelRequest& request);
bool is_winograd(const KernelRequest& request);
KernelPtr make_winograd_conv(const KernelRequest& request);
bool is_in_groups(const KernelRequest& request);
KernelPtr make_group_conv(const KernelRequest& request);

}  // namespace npu::cpu

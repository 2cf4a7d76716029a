// Convolutions of 1 to 3 spatial dimensions as matrix products over gathered patches.
#include "cpu/ops/conv.h"

#include "npu/error.h"

namespace npu::cpu {

namespace {

constexpr std::int64_t kFewPixels = 16;  // not worth a copy of the result into planes

// Of a vector of output channels.
bool fills_few_lanes(const ConvGeometry& g) { return g.out_channels < micro().lanes / 2; }

class GemmConv final : public ConvBase {
 public:
  explicit GemmConv(const KernelRequest& r) : ConvBase(r) {
    pairs_ = multiplies_pairs(*micro_, r.inputs[0].dtype, r.inputs[1].dtype);
    shape_ = {g_.pixels(), g_.group_out(), words(g_.depth(), pairs_)};
    grid_ = plan_gemm(*micro_, shape_, threads_, g_.groups);
    per_thread_ = (gemm_scratch(*micro_, shape_, grid_, epilogue_) + 63) / 64 * 64;
  }

  std::string name() const override {
    return std::string(pairs_ ? "conv[pairs " : "conv[gemm ") + micro_->name +
           (epilogue_.in_tile() || epilogue_.after_tile() ? "]" : " +map]");
  }
  std::size_t scratch_bytes() const override { return per_thread_ * static_cast<std::size_t>(threads_); }
  int packed_input() const override { return inputs_[1].constant ? 1 : -1; }
  std::size_t packed_bytes() const override {
    return inputs_[1].constant ? group_floats() * sizeof(float) * static_cast<std::size_t>(g_.groups) : 0;
  }
  std::string packing() const override {
    return (pairs_ ? "conv pairs " : "conv panels ") + std::to_string(micro_->nr) + " groups " +
           std::to_string(g_.groups) + " of" + weight_text(inputs_[1]);
  }
  void pack(const void* raw, std::byte* packed, ThreadPool& pool) const override {
    for (std::int64_t group = 0; group < g_.groups; ++group) {
      const ConvOperands operands(g_, request_, epilogue_, group, nullptr, raw, pairs_);
      pack_panels(*micro_, shape_, operands,
                  reinterpret_cast<float*>(packed) + group_floats() * static_cast<std::size_t>(group), pool);
    }
  }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    if (g_.pixels() == 0 || g_.out_channels == 0) return;
    pool.run(g_.groups * grid_.pieces(), [&](std::int64_t piece, int thread) {
      const std::int64_t group = piece / grid_.pieces();
      const ConvOperands operands(g_, request_, epilogue_, group, args.inputs[0], args.inputs[1], pairs_);
      GemmCall call;
      call.micro = micro_;
      call.shape = shape_;
      call.pairs = pairs_;
      call.operands = &operands;
      if (args.packed)
        call.packed =
            reinterpret_cast<const float*>(args.packed) + group_floats() * static_cast<std::size_t>(group);
      if (args.inputs[2]) {
        const TensorDesc& bias = inputs_[2];
        call.bias = element(args.inputs[2], bias.dtype, group * g_.group_out() * bias.strides[0]);
        call.bias_dtype = bias.dtype;
        call.bias_stride = bias.strides[0];
      }
      call.epilogue = &epilogue_;
      call.out_dtype = outputs_[0].dtype;
      call.out = args.outputs[0];
      call.out_stride = g_.out_channel;
      call.extras = args.inputs + 3;
      gemm_piece(call, grid_, piece % grid_.pieces(),
                 args.scratch + per_thread_ * static_cast<std::size_t>(thread));
    });
  }

 private:
  std::size_t group_floats() const { return shape_.packed_floats(*micro_); }

  bool pairs_ = false;
  GemmShape shape_;
  GemmGrid grid_;
  std::size_t per_thread_ = 0;
};

}  // namespace

bool reads_planes(const KernelRequest& request) {
  const ConvGeometry g = geometry_of(request);
  if (is_spread(request)) return false;
  if (g.groups > 1) return fills_few_lanes(g) && g.out_channel != 1 && is_planar(request);
  return is_planar(request) || is_direct_of_planes(request);
}

bool writes_planes(const KernelRequest& request) {
  const ConvGeometry g = geometry_of(request);
  return fills_few_lanes(g) || g.pixels() < kFewPixels || (g.groups == 1 && is_planar(request));
}

KernelPtr make_conv(const KernelRequest& request) {
  if (is_spread(request)) return make_spread_conv(request);
  if (is_in_groups(request)) return make_group_conv(request);
  if (is_planar(request)) return make_planar_conv(request);
  if (is_winograd(request)) return make_winograd_conv(request);
  if (is_direct(request)) return make_direct_conv(request);
  return std::make_unique<GemmConv>(request);
}

}  // namespace npu::cpu

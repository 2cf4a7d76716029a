#include "cpu/ops/conv.h"

namespace npu::cpu {

namespace {

// One filter per channel: rows of channels times rows of weights.
class DepthwiseConv final : public ConvBase {
 public:
  explicit DepthwiseConv(const KernelRequest& r) : ConvBase(r) {
    const std::size_t floats = static_cast<std::size_t>((2 * g_.in_channels + 15) / 16 * 16);
    per_thread_ = (floats * sizeof(float) + epilogue_.scratch_bytes() + 63) / 64 * 64;
  }

  std::string name() const override { return std::string("conv[depthwise ") + micro_->name + "]"; }
  std::size_t scratch_bytes() const override { return per_thread_ * static_cast<std::size_t>(threads_); }
  int packed_input() const override { return 1; }
  std::size_t packed_bytes() const override {
    return static_cast<std::size_t>(g_.taps() * g_.in_channels) * sizeof(float);
  }
  std::string packing() const override { return "conv depthwise" + weight_text(inputs_[1]); }
  void pack(const void* raw, std::byte* packed, ThreadPool&) const override {
    const DType dtype = inputs_[1].dtype;
    float* to = reinterpret_cast<float*>(packed);
    for (std::int64_t tap = 0; tap < g_.taps(); ++tap, to += g_.in_channels) {
      load_row(dtype, element(raw, dtype, g_.weight_at(0, tap)), g_.weight_column, to, g_.in_channels);
    }
  }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    const std::int64_t rows = g_.batch * g_.out[0] * g_.out[1];
    constexpr std::int64_t kFewProducts = 50000;  // a few microseconds: not worth waking threads
    const bool worth = rows * g_.out[2] * g_.in_channels * g_.taps() > kFewProducts;
    const std::int64_t pieces = worth ? std::min<std::int64_t>(rows, 4 * threads_) : 1;
    pool.run(rows * g_.out[2] * g_.in_channels == 0 ? 0 : pieces, [&](std::int64_t piece, int thread) {
      const Range range = split(rows, pieces, piece);
      std::byte* const scratch = args.scratch + per_thread_ * static_cast<std::size_t>(thread);
      for (Pixel p(g_, range.begin * g_.out[2]);
           range.begin * g_.out[2] + done(p, range) < range.end * g_.out[2]; p.next(g_)) {
        pixel(args, p, scratch);
      }
    });
  }

 private:
  std::int64_t done(const Pixel& p, const Range& range) const {
    return ((p.n * g_.out[0] + p.d) * g_.out[1] + p.h) * g_.out[2] + p.w - range.begin * g_.out[2];
  }

  void pixel(const KernelArgs& args, const Pixel& p, std::byte* scratch) const {
    const std::int64_t channels = g_.in_channels;
    float* const acc = reinterpret_cast<float*>(scratch);
    float* const wide = acc + channels;
    const DType dtype = inputs_[0].dtype;
    if (args.inputs[2]) {
      load_row(inputs_[2].dtype, args.inputs[2], inputs_[2].strides[0], acc, channels);
    } else {
      std::fill_n(acc, channels, 0.0f);
    }
    const float* weights = reinterpret_cast<const float*>(args.packed);
    for (std::int64_t kd = 0; kd < g_.kernel[0]; ++kd) {
      const std::int64_t d = g_.source(0, p.d, kd);
      for (std::int64_t kh = 0; kh < g_.kernel[1]; ++kh) {
        const std::int64_t h = g_.source(1, p.h, kh);
        for (std::int64_t kw = 0; kw < g_.kernel[2]; ++kw, weights += channels) {
          const std::int64_t w = g_.source(2, p.w, kw);
          if (d < 0 || h < 0 || w < 0) continue;
          const void* x = element(args.inputs[0], dtype,
                                  p.n * g_.x_batch + d * g_.x_step[0] + h * g_.x_step[1] + w * g_.x_step[2]);
          const float* row = static_cast<const float*>(x);
          if (dtype != DType::kFloat32) {
            load_row(dtype, x, 1, wide, channels);
            row = wide;
          }
          micro_->multiply_add(row, weights, acc, channels);
        }
      }
    }
    finish(args, p, acc, scratch);
  }

  void finish(const KernelArgs& args, const Pixel& p, float* acc, std::byte* scratch) const {
    const ConvOperands operands(g_, request_, epilogue_, 0, nullptr, nullptr, false);
    std::int64_t at = 0, offsets[kMaxExtras];
    const void* pointers[kMaxExtras] = {};
    operands.locate(((p.n * g_.out[0] + p.d) * g_.out[1] + p.h) * g_.out[2] + p.w, &at, offsets);
    const auto& extras = epilogue_.extras();
    for (std::size_t k = 0; k < extras.size(); ++k) {
      pointers[k] = element(args.inputs[3 + k], extras[k].dtype, offsets[k]);
    }
    void* const out = element(args.outputs[0], outputs_[0].dtype, at);
    if (epilogue_.in_tile()) {
      if (epilogue_.residual() >= 0) {
        micro_->add_into(static_cast<const float*>(pointers[epilogue_.residual()]), acc, g_.in_channels);
      }
      if (epilogue_.relu()) micro_->unary(ExprOp::kRelu, acc, acc, g_.in_channels);
      store_row(outputs_[0].dtype, acc, out, 1, g_.in_channels);
      return;
    }
    epilogue_.run(acc, 0, g_.in_channels, pointers, out,
                  scratch + static_cast<std::size_t>((2 * g_.in_channels + 15) / 16 * 16) * sizeof(float));
  }

  std::size_t per_thread_ = 0;
};

}  // namespace

bool is_depthwise(const KernelRequest& request) {
  const ConvGeometry g = geometry_of(request);
  return g.depthwise() && g.x_channel == 1 && request.inputs[1].constant;
}

KernelPtr make_depthwise_conv(const KernelRequest& request) {
  return std::make_unique<DepthwiseConv>(request);
}

}  // namespace npu::cpu

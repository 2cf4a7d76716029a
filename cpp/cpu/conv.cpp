// Convolutions of 1 to 3 spatial dimensions as matrix products over gathered patches, and depthwise ones
// directly.
#include <algorithm>
#include <array>
#include <cstring>

#include "gemm.h"
#include "npu/error.h"
#include "ops.h"

namespace npu::cpu {

namespace {

using Triple = std::array<std::int64_t, 3>;

// Everything in three spatial dimensions; missing ones lead, with extent 1.
struct Geometry {
  std::int64_t batch = 1, in_channels = 1, out_channels = 1, groups = 1;
  Triple in{1, 1, 1}, out{1, 1, 1}, kernel{1, 1, 1}, stride{1, 1, 1}, low{0, 0, 0}, dilation{1, 1, 1},
      up{1, 1, 1};
  std::int64_t x_batch = 0, x_channel = 0, out_batch = 0, out_channel = 0;
  Triple x_step{0, 0, 0}, out_step{0, 0, 0};
  std::int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  std::int64_t pixels() const { return batch * out[0] * out[1] * out[2]; }
  std::int64_t group_in() const { return in_channels / groups; }
  std::int64_t group_out() const { return out_channels / groups; }
};

Geometry geometry_of(const KernelRequest& r) {
  const auto& attrs = std::get<ConvAttrs>(r.op.attrs);
  const TensorDesc &x = r.inputs[0], &w = r.inputs[1], &out = r.outputs[0];
  Geometry g;
  g.batch = x.shape[0];
  g.in_channels = x.shape[1];
  g.out_channels = w.shape[0];
  g.groups = attrs.groups;
  g.x_batch = x.strides[0];
  g.x_channel = x.strides[1];
  g.out_batch = out.strides[0];
  g.out_channel = out.strides[1];
  const std::size_t spatial = x.shape.size() - 2;
  for (std::size_t i = 0; i < spatial; ++i) {
    const std::size_t to = 3 - spatial + i;
    g.in[to] = x.shape[i + 2];
    g.out[to] = out.shape[i + 2];
    g.kernel[to] = w.shape[i + 2];
    g.stride[to] = attrs.stride[i];
    g.low[to] = attrs.padding_low[i];
    g.dilation[to] = attrs.dilation[i];
    g.up[to] = attrs.input_dilation[i];
    g.x_step[to] = x.strides[i + 2];
    g.out_step[to] = out.strides[i + 2];
  }
  return g;
}

// When each output pixel reads one input pixel and all of these are evenly spaced: how far. Else 0.
std::int64_t pixel_step(const Geometry& g) {
  if (g.taps() != 1 || g.x_channel != 1) return 0;
  std::int64_t step = 0, expected = 0;
  const auto continues = [&](std::int64_t extent, std::int64_t stride) {
    if (extent == 1) return true;
    if (step == 0) step = expected = stride;
    if (stride != expected) return false;
    expected *= extent;
    return true;
  };
  for (int d = 2; d >= 0; --d) {
    if (g.in[d] != g.out[d] || g.stride[d] != 1 || g.up[d] != 1 || g.low[d] != 0) return 0;
    if (!continues(g.in[d], g.x_step[d])) return 0;
  }
  return continues(g.batch, g.x_batch) && !shares_cache_set(step) ? step : 0;
}

// Walks output pixels in order without dividing each time.
struct Pixel {
  std::int64_t n, d, h, w;
  Pixel(const Geometry& g, std::int64_t index) {
    w = index % g.out[2];
    index /= g.out[2];
    h = index % g.out[1];
    index /= g.out[1];
    d = index % g.out[0];
    n = index / g.out[0];
  }
  void next(const Geometry& g) {
    if (++w < g.out[2]) return;
    w = 0;
    if (++h < g.out[1]) return;
    h = 0;
    if (++d < g.out[0]) return;
    d = 0;
    ++n;
  }
};

// The input coordinate under tap `k` of an output coordinate, or -1 in padding and between dilated elements.
inline std::int64_t source(const Geometry& g, int dim, std::int64_t out, std::int64_t k) {
  const std::int64_t at = out * g.stride[dim] - g.low[dim] + k * g.dilation[dim];
  if (at < 0) return -1;
  if (g.up[dim] == 1) return at < g.in[dim] ? at : -1;
  return at % g.up[dim] == 0 && at / g.up[dim] < g.in[dim] ? at / g.up[dim] : -1;
}

// memcpy without its call: the runs of a first convolution are short. Whole vectors, the last one
// overlapping.
inline void copy_floats(const float* from, float* to, std::int64_t n) {
  constexpr std::int64_t kChunk = 16, kLong = 256;
  if (n > kLong || n < 4) {
    std::copy_n(from, n, to);
  } else if (n < kChunk) {
    for (std::int64_t i = 0; i + 4 <= n; i += 4) std::memcpy(to + i, from + i, 16);
    std::memcpy(to + n - 4, from + n - 4, 16);
  } else {
    for (std::int64_t i = 0; i + kChunk <= n; i += kChunk) std::memcpy(to + i, from + i, 64);
    std::memcpy(to + n - kChunk, from + n - kChunk, 64);
  }
}

// One group's product: rows are output pixels, depth runs over (kd, kh, kw, channel).
class ConvOperands final : public GemmOperands {
 public:
  ConvOperands(const Geometry& g, const KernelRequest& r, const Epilogue& epilogue, std::int64_t group,
               const void* x, const void* w)
      : g_(g),
        w_desc_(r.inputs[1]),
        epilogue_(epilogue),
        group_(group),
        dtype_(r.inputs[0].dtype),
        x_(x),
        w_(w),
        runs_(g.x_channel == 1 && g.groups == 1 && g.dilation[2] == 1 && g.up[2] == 1 &&
              g.x_step[2] == g.in_channels),
        pixel_step_(dtype_ == DType::kFloat32 ? pixel_step(g) : 0) {}

  void pack_rows(std::int64_t row, std::int64_t count, std::int64_t k, std::int64_t length,
                 float* to) const override {
    Pixel pixel(g_, row);
    for (std::int64_t i = 0; i < count; ++i, pixel.next(g_), to += kPackedStride) {
      if (runs_) {
        pack_runs(pixel, k, length, to);
      } else {
        pack_taps(pixel, k, length, to);
      }
    }
  }

  const float* rows_in_place(std::int64_t row, std::int64_t, std::int64_t* stride) const override {
    if (pixel_step_ == 0) return nullptr;
    *stride = pixel_step_;
    return static_cast<const float*>(x_) + group_ * g_.group_in() + row * pixel_step_;
  }

  void pack_panel(std::int64_t column, std::int64_t count, std::int64_t k, std::int64_t length, int nr,
                  float* to) const override {
    const std::int64_t channels = g_.group_in();
    const std::size_t spatial = w_desc_.shape.size() - 2;
    for (std::int64_t i = 0; i < length; ++i, to += nr) {
      const std::int64_t tap = (k + i) / channels, c = (k + i) % channels;
      const Triple at = {tap / (g_.kernel[2] * g_.kernel[1]), tap / g_.kernel[2] % g_.kernel[1],
                         tap % g_.kernel[2]};
      std::int64_t offset = (group_ * g_.group_out() + column) * w_desc_.strides[0] + c * w_desc_.strides[1];
      for (std::size_t s = 0; s < spatial; ++s) offset += at[3 - spatial + s] * w_desc_.strides[s + 2];
      load_row(w_desc_.dtype, element(w_, w_desc_.dtype, offset), w_desc_.strides[0], to, count);
      std::memset(to + count, 0, sizeof(float) * static_cast<std::size_t>(nr - count));
    }
  }

  void locate(std::int64_t row, std::int64_t* out, std::int64_t* extras) const override {
    const Pixel p(g_, row);
    const std::int64_t channel = group_ * g_.group_out();
    *out = p.n * g_.out_batch + channel * g_.out_channel + p.d * g_.out_step[0] + p.h * g_.out_step[1] +
           p.w * g_.out_step[2];
    const auto& descs = epilogue_.extras();
    for (std::size_t e = 0; e < descs.size(); ++e) {
      const Shape& s = descs[e].strides;
      const std::size_t rank = s.size();
      std::int64_t at = p.n * s[0] + channel * s[1] + p.w * s[rank - 1];
      if (rank > 3) at += p.h * s[rank - 2];
      if (rank > 4) at += p.d * s[rank - 3];
      extras[e] = at;
    }
  }

  void locate_rows(std::int64_t row, std::int64_t count, int extra, std::int64_t* out,
                   std::int64_t* extra_at) const override {
    const std::int64_t channel = group_ * g_.group_out();
    const Shape* const s =
        extra >= 0 ? &epilogue_.extras()[static_cast<std::size_t>(extra)].strides : nullptr;
    const std::size_t rank = s ? s->size() : 0;
    const std::int64_t steps[3] = {rank > 4 ? (*s)[rank - 3] : 0, rank > 3 ? (*s)[rank - 2] : 0,
                                   rank > 2 ? (*s)[rank - 1] : 0};
    Pixel p(g_, row);
    for (std::int64_t i = 0; i < count; ++i, p.next(g_)) {
      out[i] = p.n * g_.out_batch + channel * g_.out_channel + p.d * g_.out_step[0] + p.h * g_.out_step[1] +
               p.w * g_.out_step[2];
      extra_at[i] =
          s ? p.n * (*s)[0] + channel * (*s)[1] + p.d * steps[0] + p.h * steps[1] + p.w * steps[2] : 0;
    }
  }

 private:
  // Taps along the row touch consecutive elements: one copy for all of them.
  void pack_runs(const Pixel& p, std::int64_t k, std::int64_t length, float* to) const {
    const std::int64_t channels = g_.in_channels, row_length = g_.kernel[2] * channels;
    const std::int64_t w0 = p.w * g_.stride[2] - g_.low[2];
    const std::int64_t first = std::max<std::int64_t>(0, -w0) * channels;
    const std::int64_t beyond = std::max(first, std::min(g_.kernel[2], g_.in[2] - w0) * channels);
    const std::int64_t end = k + length;
    std::int64_t line = k / row_length;
    for (std::int64_t at = k; at < end; ++line) {
      const std::int64_t begin = line * row_length, stop = std::min(end, begin + row_length);
      const std::int64_t d = source(g_, 0, p.d, line / g_.kernel[1]),
                         h = source(g_, 1, p.h, line % g_.kernel[1]);
      const std::int64_t lo = d < 0 || h < 0 ? stop : std::clamp(begin + first, at, stop);
      const std::int64_t hi = d < 0 || h < 0 ? stop : std::clamp(begin + beyond, lo, stop);
      std::fill(to + (at - k), to + (lo - k), 0.0f);
      if (hi > lo) {
        const std::int64_t offset =
            p.n * g_.x_batch + d * g_.x_step[0] + h * g_.x_step[1] + w0 * channels + (lo - begin);
        if (dtype_ == DType::kFloat32) {
          copy_floats(static_cast<const float*>(x_) + offset, to + (lo - k), hi - lo);
        } else {
          load_row(dtype_, element(x_, dtype_, offset), 1, to + (lo - k), hi - lo);
        }
      }
      std::fill(to + (hi - k), to + (stop - k), 0.0f);
      at = stop;
    }
  }

  void pack_taps(const Pixel& p, std::int64_t k, std::int64_t length, float* to) const {
    const std::int64_t channels = g_.group_in(), end = k + length;
    for (std::int64_t at = k; at < end;) {
      const std::int64_t tap = at / channels, c = at % channels, n = std::min(channels - c, end - at);
      const std::int64_t d = source(g_, 0, p.d, tap / (g_.kernel[2] * g_.kernel[1]));
      const std::int64_t h = source(g_, 1, p.h, tap / g_.kernel[2] % g_.kernel[1]);
      const std::int64_t w = source(g_, 2, p.w, tap % g_.kernel[2]);
      if (d < 0 || h < 0 || w < 0) {
        std::fill_n(to + (at - k), n, 0.0f);
      } else {
        const std::int64_t offset = p.n * g_.x_batch + (group_ * channels + c) * g_.x_channel +
                                    d * g_.x_step[0] + h * g_.x_step[1] + w * g_.x_step[2];
        load_row(dtype_, element(x_, dtype_, offset), g_.x_channel, to + (at - k), n);
      }
      at += n;
    }
  }

  const Geometry& g_;
  const TensorDesc& w_desc_;
  const Epilogue& epilogue_;
  std::int64_t group_;
  DType dtype_;
  const void* x_;
  const void* w_;
  bool runs_;
  std::int64_t pixel_step_;
};

class ConvBase : public Kernel {
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
    return 2.0 * static_cast<double>(g_.pixels() * g_.out_channels * g_.group_in() * g_.taps());
  }

 protected:
  KernelRequest request_;
  std::vector<TensorDesc> inputs_, outputs_;
  Geometry g_;
  const Micro* micro_;
  Epilogue epilogue_;
  int threads_;
};

class GemmConv final : public ConvBase {
 public:
  explicit GemmConv(const KernelRequest& r) : ConvBase(r) {
    shape_ = {g_.pixels(), g_.group_out(), g_.group_in() * g_.taps()};
    grid_ = plan_gemm(*micro_, shape_, threads_, g_.groups);
    per_thread_ = (gemm_scratch(*micro_, shape_, grid_, epilogue_) + 63) / 64 * 64;
  }

  std::string name() const override {
    return std::string("conv[gemm ") + micro_->name + (epilogue_.in_tile() ? "]" : " +map]");
  }
  std::size_t scratch_bytes() const override { return per_thread_ * static_cast<std::size_t>(threads_); }
  int packed_input() const override { return inputs_[1].constant ? 1 : -1; }
  std::size_t packed_bytes() const override {
    return inputs_[1].constant ? group_floats() * sizeof(float) * static_cast<std::size_t>(g_.groups) : 0;
  }
  std::string packing() const override {
    std::string text =
        "conv panels " + std::to_string(micro_->nr) + " groups " + std::to_string(g_.groups) + " of";
    for (const auto extent : inputs_[1].shape) text += " " + std::to_string(extent);
    for (const auto stride : inputs_[1].strides) text += "," + std::to_string(stride);
    return text;
  }
  void pack(const void* raw, std::byte* packed, ThreadPool& pool) const override {
    for (std::int64_t group = 0; group < g_.groups; ++group) {
      const ConvOperands operands(g_, request_, epilogue_, group, nullptr, raw);
      pack_panels(*micro_, shape_, operands,
                  reinterpret_cast<float*>(packed) + group_floats() * static_cast<std::size_t>(group), pool);
    }
  }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    if (g_.pixels() == 0 || g_.out_channels == 0) return;
    pool.run(g_.groups * grid_.pieces(), [&](std::int64_t piece, int thread) {
      const std::int64_t group = piece / grid_.pieces();
      const ConvOperands operands(g_, request_, epilogue_, group, args.inputs[0], args.inputs[1]);
      GemmCall call;
      call.micro = micro_;
      call.shape = shape_;
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

  GemmShape shape_;
  GemmGrid grid_;
  std::size_t per_thread_ = 0;
};

// One filter per channel: rows of channels times rows of weights.
class DepthwiseConv final : public ConvBase {
 public:
  explicit DepthwiseConv(const KernelRequest& r) : ConvBase(r) {
    const std::size_t floats = static_cast<std::size_t>((2 * g_.in_channels + 15) / 16 * 16);
    per_thread_ = (floats * sizeof(float) + epilogue_.scratch_bytes() + 63) / 64 * 64;
  }

  static bool fits(const KernelRequest& r) {
    const Geometry g = geometry_of(r);
    return g.groups > 1 && g.group_in() == 1 && g.group_out() == 1 && g.x_channel == 1 &&
           r.inputs[1].constant;
  }

  std::string name() const override { return std::string("conv[depthwise ") + micro_->name + "]"; }
  std::size_t scratch_bytes() const override { return per_thread_ * static_cast<std::size_t>(threads_); }
  int packed_input() const override { return 1; }
  std::size_t packed_bytes() const override {
    return static_cast<std::size_t>(g_.taps() * g_.in_channels) * sizeof(float);
  }
  std::string packing() const override {
    std::string text = "conv depthwise";
    for (const auto extent : inputs_[1].shape) text += " " + std::to_string(extent);
    for (const auto stride : inputs_[1].strides) text += "," + std::to_string(stride);
    return text;
  }
  void pack(const void* raw, std::byte* packed, ThreadPool&) const override {
    const TensorDesc& w = inputs_[1];
    const std::size_t spatial = w.shape.size() - 2;
    float* to = reinterpret_cast<float*>(packed);
    for (std::int64_t tap = 0; tap < g_.taps(); ++tap, to += g_.in_channels) {
      const Triple at = {tap / (g_.kernel[2] * g_.kernel[1]), tap / g_.kernel[2] % g_.kernel[1],
                         tap % g_.kernel[2]};
      std::int64_t offset = 0;
      for (std::size_t s = 0; s < spatial; ++s) offset += at[3 - spatial + s] * w.strides[s + 2];
      load_row(w.dtype, element(raw, w.dtype, offset), w.strides[0], to, g_.in_channels);
    }
  }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    const std::int64_t rows = g_.batch * g_.out[0] * g_.out[1];
    const bool worth = rows * g_.out[2] * g_.in_channels * g_.taps() > 50000;
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
      const std::int64_t d = source(g_, 0, p.d, kd);
      for (std::int64_t kh = 0; kh < g_.kernel[1]; ++kh) {
        const std::int64_t h = source(g_, 1, p.h, kh);
        for (std::int64_t kw = 0; kw < g_.kernel[2]; ++kw, weights += channels) {
          const std::int64_t w = source(g_, 2, p.w, kw);
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
    const ConvOperands operands(g_, request_, epilogue_, 0, nullptr, nullptr);
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
    epilogue_.run(acc, g_.in_channels, pointers, out,
                  scratch + static_cast<std::size_t>((2 * g_.in_channels + 15) / 16 * 16) * sizeof(float));
  }

  std::size_t per_thread_ = 0;
};

}  // namespace

Made make_conv(const KernelRequest& request) {
  if (DepthwiseConv::fits(request)) return std::make_unique<DepthwiseConv>(request);
  return std::make_unique<GemmConv>(request);
}

}  // namespace npu::cpu

// Convolutions of inputs with gaps between their elements (transposed ones): results as far apart as these
// see the same weights, and no gaps, so that each such set is a convolution without any.
#include <numeric>

#include "cpu/ops/conv.h"

namespace npu::cpu {

namespace {

// Of one dimension: the results o = first + up * i, and the taps k = tap + every * j that meet elements.
struct Phase {
  std::int64_t first = 0, results = 0, tap = 0, every = 1, taps = 0, low = 0, dilation = 1;
};

Phase phase_of(const ConvGeometry& g, std::size_t d, std::int64_t first) {
  const std::int64_t up = g.up[d], common = std::gcd(up, g.dilation[d]);
  Phase p;
  p.first = first;
  p.results = (g.out[d] - first + up - 1) / up;
  p.every = up / common;
  p.dilation = g.dilation[d] / common;
  const auto at = [&](std::int64_t k) { return first - g.low[d] + k * g.dilation[d]; };
  while (p.tap < g.kernel[d] && at(p.tap) % up != 0) ++p.tap;
  if (p.tap == g.kernel[d]) {  // they see no element: one tap, which lies in the padding
    p.tap = 0;
    p.taps = 1;
    p.low = p.results;
    return p;
  }
  p.taps = (g.kernel[d] - p.tap + p.every - 1) / p.every;
  p.low = -at(p.tap) / up;
  return p;
}

std::vector<Phase> phases_of(const ConvGeometry& g, std::size_t d) {
  std::vector<Phase> all;
  for (std::int64_t first = 0; first < std::min(g.up[d], g.out[d]); ++first)
    all.push_back(phase_of(g, d, first));
  return all;
}

class SpreadConv final : public HostKernel {
 public:
  explicit SpreadConv(const KernelRequest& r) : weight_dtype_(r.inputs[1].dtype) {
    const ConvGeometry g = geometry_of(r);
    for (const TensorDesc& x : r.inputs) input_dtypes_.push_back(x.dtype);
    out_dtype_ = r.outputs[0].dtype;
    const std::size_t rank = r.outputs[0].shape.size() - 2;
    for (const Phase& a : phases_of(g, 0)) {
      for (const Phase& b : phases_of(g, 1)) {
        for (const Phase& c : phases_of(g, 2)) {
          const Phase all[3] = {a, b, c};
          add_part(r, all + (3 - rank), rank);
        }
      }
    }
    for (const Part& part : parts_) {
      scratch_ = std::max(scratch_, part.kernel->scratch_bytes());
      packs_ |= part.kernel->packed_input() == 1;
    }
  }

  std::string name() const override { return "conv[spread " + host(0).name() + "]"; }
  std::size_t scratch_bytes() const override { return scratch_; }
  int packed_input() const override { return packs_ ? 1 : -1; }
  std::size_t packed_bytes() const override {
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < parts_.size(); ++i) bytes += part_bytes(i);
    return bytes;
  }
  std::string packing() const override {
    std::string text = "conv spread";
    for (const Part& part : parts_)
      text += "; at " + std::to_string(part.weight_at) + " " + part.kernel->packing();
    return text;
  }
  void pack(const void* raw, std::byte* packed, ThreadPool& pool) const override {
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      parts_[i].kernel->pack(element(raw, weight_dtype_, parts_[i].weight_at), packed, pool);
      packed += part_bytes(i);
    }
  }
  double flops() const override {
    double all = 0;
    for (const Part& part : parts_) all += part.kernel->flops();
    return all;
  }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    const std::byte* packed = args.packed;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const Part& part = parts_[i];
      const void* inputs[kMaxExtras + 3];
      for (std::size_t k = 0; k < input_dtypes_.size(); ++k) {
        inputs[k] =
            args.inputs[k] != nullptr ? element(args.inputs[k], input_dtypes_[k], part.input_at[k]) : nullptr;
      }
      void* const out = element(args.outputs[0], out_dtype_, part.out_at);
      host(i).run({inputs, &out, args.scratch, packed}, pool);
      if (packed != nullptr) packed += part_bytes(i);
    }
  }

 private:
  struct Part {
    std::unique_ptr<Op> op;
    KernelPtr kernel;
    std::int64_t weight_at = 0, out_at = 0;
    std::vector<std::int64_t> input_at;  // of each input
  };

  const HostKernel& host(std::size_t i) const { return static_cast<const HostKernel&>(*parts_[i].kernel); }
  std::size_t part_bytes(std::size_t i) const { return (parts_[i].kernel->packed_bytes() + 63) / 64 * 64; }

  // The results of one phase of each of `rank` dimensions.
  void add_part(const KernelRequest& r, const Phase* phases, std::size_t rank) {
    Part part;
    part.op = std::make_unique<Op>(r.op);
    auto& attrs = std::get<ConvAttrs>(part.op->attrs);
    std::vector<TensorDesc> inputs = r.inputs, outputs = r.outputs;
    part.input_at.assign(inputs.size(), 0);
    for (std::size_t d = 0; d < rank; ++d) {
      const Phase& p = phases[d];
      const std::int64_t up = attrs.input_dilation[d];
      attrs.input_dilation[d] = 1;
      attrs.padding_low[d] = p.low;
      attrs.dilation[d] = p.dilation;
      part.weight_at += p.tap * inputs[1].strides[d + 2];
      inputs[1].shape[d + 2] = p.taps;
      inputs[1].strides[d + 2] *= p.every;
      part.out_at += thin(outputs[0], d + 2, p, up);
      for (std::size_t k = 3; k < inputs.size(); ++k) part.input_at[k] += thin(inputs[k], d + 2, p, up);
    }
    part.input_at[1] = part.weight_at;
    part.kernel = make_conv({*part.op, inputs, outputs, r.threads});
    parts_.push_back(std::move(part));
  }

  // Leaves those elements of a dimension that belong to the phase; returns where the first of them is.
  static std::int64_t thin(TensorDesc& x, std::size_t d, const Phase& p, std::int64_t up) {
    const std::int64_t first = p.first * x.strides[d];
    x.shape[d] = p.results;
    x.strides[d] *= up;
    return first;
  }

  std::vector<Part> parts_;
  std::vector<DType> input_dtypes_;
  DType weight_dtype_, out_dtype_ = DType::kFloat32;
  bool packs_ = false;
  std::size_t scratch_ = 0;
};

}  // namespace

bool is_spread(const KernelRequest& request) {
  const ConvGeometry g = geometry_of(request);
  return g.spreads() && g.stride == Triple{1, 1, 1} && g.taps() > 0 && g.pixels() > 0;
}

KernelPtr make_spread_conv(const KernelRequest& request) { return std::make_unique<SpreadConv>(request); }

}  // namespace npu::cpu

// Rotary embeddings of queries and keys, and the rows of caches that keys and values go to.
#include "core/geometry/rope.h"

#include "cpu/element.h"
#include "cpu/ops/ops.h"
#include "cpu/strided.h"

namespace npu::cpu {

namespace {

constexpr std::size_t kX = 0, kCos = 1, kSin = 2, kKey = 3, kValue = 4, kKeyCache = 5, kIndex = 7;

// One head's rows after another: where an index repeats, the last row wins.
class Rope final : public HostKernel {
 public:
  explicit Rope(const KernelRequest& r)
      : micro_(&micro()),
        r_(r),
        interleaved_(std::get<RopeAttrs>(r.op.attrs).interleaved),
        caches_(r.inputs[kKeyCache].present()),
        dtype_(r.inputs[kX].dtype),
        size_(size_of(dtype_)),
        g_(rope_geometry(r.inputs[kX], r.inputs[kCos], r.inputs[kKey], r.inputs[kValue])) {
    units_ = g_.batch * g_.all_heads();
    pieces_ = piece_count(units_, 4 * static_cast<double>(g_.length * g_.width), r.threads);
    thread_floats_ = (static_cast<std::size_t>(4 * g_.rotated) + 15) / 16 * 16;
    for (std::size_t k = 0; k < 2; ++k) {
      const TensorDesc &from = r.inputs[kKeyCache + k], &to = r.outputs[1 + k];
      if (from.present()) copies_[k] = StridedCopy(to.shape, to.strides, from.strides, size_, r.threads);
    }
  }

  std::string name() const override {
    return std::string("rope[") + (interleaved_ ? "interleaved" : "halves") + (caches_ ? ", caches]" : "]");
  }
  std::size_t scratch_bytes() const override {
    return thread_floats_ * sizeof(float) * static_cast<std::size_t>(r_.threads);
  }
  double flops() const override {
    return 3.0 * static_cast<double>(g_.batch * (g_.heads + g_.key_heads) * g_.length * g_.rotated);
  }
  double bytes() const override {  // not the caches: only some of their rows are touched
    const std::int64_t row = (g_.heads + g_.key_heads) * g_.width + g_.value_heads * g_.value_width;
    return 2.0 * static_cast<double>(size_) * static_cast<double>(g_.batch * g_.length * row);
  }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    if (caches_) check_index(args);
    for (std::size_t k = 0; k < 2; ++k) {
      const void* from = args.inputs[kKeyCache + k];
      if (from != nullptr && from != args.outputs[1 + k]) copies_[k].run(args.outputs[1 + k], from, pool);
    }
    pool.run(pieces_, [&](std::int64_t piece, int thread) {
      auto* scratch =
          reinterpret_cast<float*>(args.scratch) + thread_floats_ * static_cast<std::size_t>(thread);
      const Range range = split(units_, pieces_, piece);
      for (std::int64_t unit = range.begin; unit < range.end; ++unit) run_head(args, unit, scratch);
    });
  }

 private:
  void check_index(const KernelArgs& args) const {
    const std::int64_t rows = r_.inputs[kKeyCache].shape[2];
    for (std::int64_t s = 0; s < g_.length; ++s) {
      const std::int64_t index = index_at(args, s);
      if (index >= 0 && index < rows) continue;
      throw Error(ErrorKind::kInvalidValue,
                  {.area = "run",
                   .what = "an index of the op " + quoted(r_.op.name) + " is out of range in dimension 2",
                   .got = std::to_string(index),
                   .expected = "from 0 to " + std::to_string(rows - 1),
                   .action = {}});
    }
  }
  std::int64_t index_at(const KernelArgs& args, std::int64_t s) const {
    return static_cast<const std::int64_t*>(args.inputs[kIndex])[s * r_.inputs[kIndex].strides[0]];
  }

  void run_head(const KernelArgs& args, std::int64_t unit, float* scratch) const {
    const std::int64_t all = g_.all_heads(), n = unit / all, h = unit % all;
    if (h < g_.heads) return rotate_head(args, kX, 0, n, h, scratch);
    if (h < g_.heads + g_.key_heads) return rotate_head(args, kKey, 1, n, h - g_.heads, scratch);
    const TensorDesc &from = r_.inputs[kValue], &to = r_.outputs[2];
    for (std::int64_t s = 0; s < g_.length; ++s) {
      const std::int64_t g = h - g_.heads - g_.key_heads;
      copy_row(at(args.outputs[2], offset(to, n, g, index_at(args, s)), size_), to.strides[3],
               at(args.inputs[kValue], offset(from, n, g, s), size_), from.strides[3], g_.value_width, size_);
    }
  }

  static std::int64_t offset(const TensorDesc& t, std::int64_t n, std::int64_t h, std::int64_t s) {
    return n * t.strides[0] + h * t.strides[1] + s * t.strides[2];
  }

  void rotate_head(const KernelArgs& args, std::size_t operand, std::size_t result, std::int64_t n,
                   std::int64_t h, float* scratch) const {
    const TensorDesc &from = r_.inputs[operand], &to = r_.outputs[result];
    for (std::int64_t s = 0; s < g_.length; ++s) {
      const std::int64_t row = result > 0 && caches_ ? index_at(args, s) : s;
      const auto* x = at(args.inputs[operand], offset(from, n, h, s), size_);
      auto* y = at(args.outputs[result], offset(to, n, h, row), size_);
      rotate(args, n, s, x, from.strides[3], y, to.strides[3], scratch);
      if (g_.rotated < g_.width) {
        copy_row(y + g_.rotated * to.strides[3] * static_cast<std::int64_t>(size_), to.strides[3],
                 x + g_.rotated * from.strides[3] * static_cast<std::int64_t>(size_), from.strides[3],
                 g_.width - g_.rotated, size_);
      }
    }
  }

  const float* angles(const KernelArgs& args, std::size_t operand, std::int64_t n, std::int64_t s,
                      float* buffer) const {
    const TensorDesc& t = r_.inputs[operand];
    return float_row(*micro_, t.dtype, at(args.inputs[operand], offset(t, n, 0, s), size_of(t.dtype)),
                     t.strides[3], g_.rotated, buffer);
  }

  void rotate(const KernelArgs& args, std::int64_t n, std::int64_t s, const std::byte* x, std::int64_t x_step,
              std::byte* y, std::int64_t y_step, float* scratch) const {
    const float* cos = angles(args, kCos, n, s, scratch);
    const float* sin = angles(args, kSin, n, s, scratch + g_.rotated);
    const float* wide = float_row(*micro_, dtype_, x, x_step, g_.rotated, scratch + 2 * g_.rotated);
    const bool direct = dtype_ == DType::kFloat32 && y_step == 1;
    float* const turned = direct ? reinterpret_cast<float*>(y) : scratch + 3 * g_.rotated;
    micro_->rotate(wide, cos, sin, interleaved_, turned, g_.rotated);
    if (!direct) store_floats(*micro_, dtype_, turned, y, y_step, g_.rotated);
  }

  const Micro* micro_;
  KernelRequest r_;
  bool interleaved_, caches_;
  DType dtype_;
  std::size_t size_;
  RopeGeometry g_;
  std::int64_t units_ = 0, pieces_ = 0;
  std::size_t thread_floats_ = 0;
  StridedCopy copies_[2];
};

}  // namespace

KernelPtr make_rope(const KernelRequest& request) { return std::make_unique<Rope>(request); }

}  // namespace npu::cpu

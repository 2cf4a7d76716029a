#include "core/geometry/nest.h"
#include "cpu/ops/ops.h"
#include "cpu/quantized.h"
#include "cpu/strided.h"

namespace npu::cpu {

namespace {

class Dequantize final : public HostKernel {
 public:
  explicit Dequantize(const KernelRequest& r)
      : out_(r.outputs[0]),
        rows_(quantization_of(std::get<DequantizeAttrs>(r.op.attrs)), out_.shape.back(), r.inputs[0],
              r.inputs[1], r.inputs[2], r.inputs[3]) {
    // A row is one element of the nest.
    Shape shape(out_.shape.begin(), out_.shape.end() - 1);
    std::vector<Shape> strides;
    const TensorDesc* const operands[] = {&out_, &r.inputs[0], &r.inputs[1], &r.inputs[2], &r.inputs[3]};
    for (const TensorDesc* x : operands) {
      strides.push_back(x->present() ? Shape(x->strides.begin(), x->strides.end() - 1)
                                     : Shape(shape.size(), 0));
    }
    shape.push_back(1);
    for (Shape& steps : strides) steps.push_back(0);
    nest_ = make_nest(shape, strides, false);
    count_ = nest_.elements();
    chunks_ = std::max<std::int64_t>(1, (rows_.depth() + kChunk - 1) / kChunk);
    pieces_ =
        piece_count(count_ * chunks_, 0.5 * static_cast<double>(std::min(rows_.depth(), kChunk)), r.threads);
  }

  std::string name() const override { return "dequantize"; }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    if (out_.elements() == 0) return;
    const QuantizedParts parts{args.inputs[0], args.inputs[1], args.inputs[2], args.inputs[3]};
    pool.run(pieces_, [&](std::int64_t piece, int) {
      const Range range = split(count_ * chunks_, pieces_, piece);
      float buffer[kChunk];
      for (std::int64_t u = range.begin; u < range.end; ++u) {
        const std::int64_t at = u / chunks_, k = u % chunks_ * kChunk;
        const Cursor cursor(nest_, at / nest_.inner());
        const auto offset = [&](int operand) {
          return cursor.offset[operand] + at % nest_.inner() * nest_.step(operand);
        };
        const std::int64_t n = std::min(kChunk, rows_.depth() - k), step = out_.strides.back();
        const bool in_place = out_.dtype == DType::kFloat32 && (step == 1 || rows_.depth() == 1);
        void* const to = element(args.outputs[0], out_.dtype, offset(0) + k * step);
        float* const numbers = in_place ? static_cast<float*>(to) : buffer;
        rows_.numbers(parts, {offset(1), offset(2), offset(3), offset(4)}, k, n, numbers);
        if (!in_place) store_floats(micro(), out_.dtype, numbers, to, step, n);
      }
    });
  }

 private:
  static constexpr std::int64_t kChunk = 2048;  // elements of a row that are one unit of work

  TensorDesc out_;
  QuantizedRows rows_;
  Nest nest_;  // of the result, the integers, scales, offsets and units over rows
  std::int64_t count_ = 0, chunks_ = 1, pieces_ = 1;
};

}  // namespace

KernelPtr make_dequantize(const KernelRequest& request) { return std::make_unique<Dequantize>(request); }

}  // namespace npu::cpu

#include "gpu/ops/product.h"

#include <algorithm>

#include "core/geometry/matmul.h"
#include "gpu/ops/expression.h"

namespace npu::gpu {

namespace {

static_assert(static_cast<int>(DType::kFloat32) == NPU_FLOAT32 &&
              static_cast<int>(DType::kFloat16) == NPU_FLOAT16 &&
              static_cast<int>(DType::kBFloat16) == NPU_BFLOAT16);

// What the kernel declares from this buffer on and will not read.
void bind_nothing(Dispatch& launch, int first) {
  for (int slot = first; slot < kBufferExtrasEnd; ++slot) launch.nothing(slot);
}

// Reads an expression from its end: activation, combination with an extra operand, activation of the sum.
class Usual {
 public:
  Usual(const Expr& expr, int first, Epilogue& epilogue) : expr_(expr), first_(first), epilogue_(epilogue) {}

  bool recognise() {
    int at = activation(static_cast<int>(expr_.size()) - 1, epilogue_.last);
    if (const ExprStep& step = expr_at(at); step.op == ExprOp::kAdd || step.op == ExprOp::kMul) {
      const bool swapped = is_extra(step.args[0]);
      const int extra = step.args[swapped ? 0 : 1];
      if (!is_extra(extra)) return false;
      epilogue_.combine = step.op == ExprOp::kAdd ? Combination::kSum : Combination::kProduct;
      if (!epilogue_.gated) epilogue_.extras = {first_ - 1 + expr_at(extra).operand};
      at = activation(step.args[swapped ? 1 : 0], epilogue_.first);
    }
    return expr_at(at).op == ExprOp::kIn && expr_at(at).operand == 0;
  }

 private:
  const ExprStep& expr_at(int step) const { return expr_[static_cast<std::size_t>(step)]; }
  bool is_extra(int step) const {
    const int operand = expr_at(step).operand;
    return expr_at(step).op == ExprOp::kIn && (epilogue_.gated ? operand == 1 : operand > 0) &&
           expr_at(step).type == 'f';
  }
  bool is_number(int step) const { return step >= 0 && expr_at(step).op == ExprOp::kConst; }

  // The step before an activation that ends at `at`, or `at`.
  int activation(int at, Activation& result) {
    const ExprStep& step = expr_at(at);
    switch (step.op) {
      case ExprOp::kRelu:
        result = Activation::kRelu;
        break;
      case ExprOp::kSilu:
        result = Activation::kSilu;
        break;
      case ExprOp::kGelu:
        result = Activation::kGelu;
        break;
      case ExprOp::kGeluTanh:
        result = Activation::kGeluTanh;
        break;
      case ExprOp::kSigmoid:
        result = Activation::kSigmoid;
        break;
      case ExprOp::kTanh:
        result = Activation::kTanh;
        break;
      case ExprOp::kHardswish:
        result = Activation::kHardswish;
        break;
      case ExprOp::kHardsigmoid:
        result = Activation::kHardsigmoid;
        break;
      case ExprOp::kMin:
        return clip(at, result);
      default:
        return at;
    }
    return step.type == 'f' ? step.args[0] : at;
  }

  // min(max(x, low), high), as hardtanh and relu6 are; once in an epilogue.
  int clip(int at, Activation& result) {
    const ExprStep& least = expr_at(at);
    if (clipped_ || least.type != 'f' || !is_number(least.args[1])) return at;
    const ExprStep& most = expr_at(least.args[0]);
    if (most.op != ExprOp::kMax || !is_number(most.args[1])) return at;
    clipped_ = true;
    result = Activation::kClip;
    epilogue_.low = static_cast<float>(expr_at(most.args[1]).number);
    epilogue_.high = static_cast<float>(expr_at(least.args[1]).number);
    return most.args[0];
  }

  const Expr& expr_;
  int first_;  // of the extras among the inputs of the op
  Epilogue& epilogue_;
  bool clipped_ = false;
};

std::string memory_type(DType dtype) {
  return std::string(dtype == DType::kBool ? "uchar" : msl_type(dtype));
}

// Defines what metal/epilogue.h asks of a generated epilogue.
std::string generated(const Request& r, const ExpressionText& expression, int sums) {
  constexpr const char* kSums[] = {"sum", "other"};
  std::string call, comma;
  int extra = 0;
  for (const int k : expression.operands) {
    call += comma;
    comma = ", ";
    if (k < sums) {
      call += kSums[k];
      continue;
    }
    const DType dtype = r.inputs[first_extra(r.op.kind) - static_cast<std::size_t>(sums - k)].dtype;
    const std::string index = std::to_string(extra++);
    const std::string element =
        "((const device " + memory_type(dtype) + "*)ends.extra[" + index + "])[at[" + index + "]]";
    const char kind = register_class(dtype);
    call += kind == 'b' ? element + " != 0" : std::string(register_type(kind)) + "(" + element + ")";
  }
  const std::string result = memory_type(r.outputs[0].dtype);
  std::string text = "#include \"extras.h\"\n\n#define NPU_EPILOGUE\n#define NPU_ONLY ";
  text += std::to_string(static_cast<int>(r.inputs[0].dtype)) + "\n\n" + expression.function;
  text += "\ntypedef " + result + " Finished;\n";
  text += "inline Finished finish(float sum, float other, Ends ends, const thread int64_t* at) {\n";
  return text + "  return Finished(expression(" + call + "));\n}\n";
}

void usual_constants(Dispatch& launch, DType result, DType extra, const Epilogue& epilogue) {
  launch.constant(kFcEpilogueResult, static_cast<int>(result));
  launch.constant(kFcEpilogueExtraType, static_cast<int>(extra));
  launch.constant(kFcEpilogueFirst, static_cast<int>(epilogue.first));
  launch.constant(kFcEpilogueCombine, static_cast<int>(epilogue.combine));
  launch.constant(kFcEpilogueLast, static_cast<int>(epilogue.last));
  launch.constant(kFcEpilogueClipLow, epilogue.low).constant(kFcEpilogueClipHigh, epilogue.high);
}

}  // namespace

std::optional<Epilogue> make_epilogue(const Request& r, const Expr& expr, bool gated) {
  Epilogue epilogue;
  epilogue.gated = gated;
  if (expr.empty()) return epilogue;
  const int first = static_cast<int>(first_extra(r.op.kind));
  if (expr.back().type == 'f' && Usual(expr, first, epilogue).recognise()) return epilogue;
  const ExpressionText expression = expression_text(expr, "expression");
  const int sums = gated ? 2 : 1;
  epilogue = {};
  epilogue.gated = gated;
  for (const int k : expression.operands) {
    if (k >= sums) epilogue.extras.push_back(first - sums + k);
  }
  if (epilogue.extras.size() > NPU_EXTRAS || expression.divides) return std::nullopt;
  epilogue.prologue = generated(r, expression, sums);
  return epilogue;
}

Product::Product(const Request& r, const Epilogue& epilogue, const std::vector<int>& dims, int column,
                 const Shape& left, const Shape& right)
    : request_(r), epilogue_(epilogue) {
  const TensorDesc& out = r.outputs[0];
  const TensorDesc& bias = r.inputs[2];
  const auto along = [&](const Shape& strides) {
    Shape kept;
    for (const int d : dims) kept.push_back(strides[static_cast<std::size_t>(d)]);
    return kept;
  };
  const Shape still(dims.size(), 0);
  const auto c = static_cast<std::size_t>(column);
  // The bias of a convolution has channels alone.
  const bool whole_bias = bias.present() && bias.shape.size() == out.shape.size();
  std::vector<Shape> strides = {along(out.strides), whole_bias ? along(bias.strides) : still};
  for (std::size_t k = 0; k < NPU_EXTRAS; ++k) {
    const bool used = k < epilogue.extras.size();
    const TensorDesc* extra = used ? &r.inputs[static_cast<std::size_t>(epilogue.extras[k])] : nullptr;
    strides.push_back(extra ? along(extra->strides) : still);
    args_.column[2 + k] = extra ? extra->strides[c] : 0;
    args_.first[2 + k] = extra ? first_element(*extra) : 0;
  }
  strides.push_back(left.empty() ? still : left);
  strides.push_back(right.empty() ? still : right);
  Nest nest = make_nest(along(out.shape), strides, false);
  // All rows of a block have the same right-hand side.
  if (nest.step(NPU_RIGHT) != 0 && nest.inner() > 1) {
    nest.extent[static_cast<std::size_t>(nest.rank)] = 1;
    nest.rows *= nest.inner();
    ++nest.rank;
  }
  args_.rows = nest_of<4 + NPU_EXTRAS>(r.op, nest);
  args_.first[0] = first_element(out);
  args_.first[1] = bias.present() ? first_element(bias) : 0;
  args_.column[0] = out.strides[c];
  args_.column[1] = whole_bias ? bias.strides[c] : bias.present() ? bias.strides[0] : 0;
  args_.columns = count32(r.op, out.shape[c]);
}

void no_epilogue(Dispatch& launch, bool gated) {
  launch.constant(kFcEpilogueBias, 0).constant(kFcEpilogueExtras, 0).constant(kFcEpilogueFours, false);
  usual_constants(launch, DType::kFloat32, DType::kFloat32, {});
  launch.constant(kFcEpilogueGated, gated);
  bind_nothing(launch, kBufferBias);
}

void Product::finish(Dispatch& launch) const {
  const TensorDesc& bias = request_.inputs[2];
  const auto extras = static_cast<int>(epilogue_.extras.size());
  launch.prologue = epilogue_.prologue;
  launch.constant(kFcEpilogueBias, bias.present() ? static_cast<int>(bias.dtype) + 1 : 0);
  launch.constant(kFcEpilogueExtras, extras);
  launch.output(kBufferResult, 0, request_);
  bool fours = args_.column[0] == 1;
  launch.input(kBufferBias, 2, request_);
  fours = fours && (!bias.present() || args_.column[1] == 1);
  for (int k = 0; k < extras; ++k) {
    launch.input(kBufferExtras + k, epilogue_.extras[static_cast<std::size_t>(k)], request_);
    fours = fours && args_.column[2 + k] == 1;
  }
  bind_nothing(launch, kBufferExtras + extras);
  launch.constant(kFcEpilogueFours, fours).constant(kFcEpilogueGated, epilogue_.gated);
  if (!epilogue_.prologue.empty()) return;
  const DType extra =
      extras > 0 ? request_.inputs[static_cast<std::size_t>(epilogue_.extras[0])].dtype : DType::kFloat32;
  usual_constants(launch, request_.outputs[0].dtype, extra, epilogue_);
}

KernelPtr with_separate_epilogue(const Request& r, const Expr& epilogue, const Attrs& without_epilogue,
                                 KernelPtr (*make)(const Request&), bool gated) {
  const int operands = gated ? 2 : 1;  // of the map, that are sums
  TensorDesc sums;
  sums.present_ = true;
  sums.shape = r.outputs[0].shape;
  const std::int64_t half = sums.shape.back();
  sums.shape.back() *= operands;
  sums.strides = sums.shape;
  std::int64_t step = 1;
  for (std::size_t d = sums.shape.size(); d-- > 0; step *= sums.shape[d]) sums.strides[d] = step;

  Op product_op = r.op;
  product_op.attrs = without_epilogue;
  const auto named = static_cast<std::ptrdiff_t>(first_extra(r.op.kind));  // operands that have names
  const Request product{{product_op, {r.inputs.begin(), r.inputs.begin() + named}, {sums}, r.threads},
                        r.caps};
  KernelPtr kernel = make(product);
  const auto at = static_cast<std::int64_t>(kernel->scratch_bytes());
  const std::int64_t bytes = step * static_cast<std::int64_t>(sizeof(float));

  Op map_op = r.op;
  map_op.kind = OpKind::kMap;
  map_op.attrs = MapAttrs{epilogue};
  sums.shape = r.outputs[0].shape;
  Request map{
      {map_op, std::vector<TensorDesc>(static_cast<std::size_t>(operands), sums), r.outputs, r.threads},
      r.caps};
  map.inputs.insert(map.inputs.end(), r.inputs.begin() + named, r.inputs.end());
  const KernelPtr finish = make_map(map);

  const auto in_scratch = [&](BufferUse& use, std::int64_t first) {
    use.from = From::kScratch;
    use.index = 0;
    use.offset = at + first;
    use.low = 0;
    use.high = bytes - first;
  };
  for (Dispatch& launch : kernel->edit()) {
    for (BufferUse& use : launch.buffers) {
      if (use.from == From::kOutput) in_scratch(use, 0);
    }
  }
  for (Dispatch launch : finish->dispatches()) {
    for (BufferUse& use : launch.buffers) {
      if (use.from != From::kInput) continue;
      if (use.index < operands) {
        in_scratch(use, use.index * half * static_cast<std::int64_t>(sizeof(float)));
      } else {
        use.index += static_cast<int>(named) - operands;
      }
    }
    kernel->add(std::move(launch));
  }
  kernel->set_scratch(at + bytes);
  return kernel;
}

}  // namespace npu::gpu

// Elementwise expressions: a kernel is written for each, with the expression, the dtypes and how operands
// move along a row in its text, and everything else in its arguments.
#include <algorithm>
#include <bit>
#include <cstdlib>
#include <numeric>

#include "gpu/ops/expression.h"
#include "gpu/ops/launch.h"
#include "gpu/ops/map_parts.h"
#include "gpu/ops/ops.h"

namespace npu::gpu {

namespace {

constexpr std::size_t kMostOperands = 28;  // Metal has 31 buffers; arguments, result and status take some
constexpr std::int64_t kFour = 4;

// How an operand moves along a row.
enum class Along { kDense, kStill, kStrided };

struct Array {
  std::string name, type;  // in memory
  char kind = 'f';         // register class
  Along along = Along::kDense;
  int operand = 0;  // among the operands of the nest
};

std::string memory_type(DType dtype) {
  return std::string(dtype == DType::kBool ? "uchar" : msl_type(dtype));
}

class MapWriter {
 public:
  MapWriter(const Request& r, const Nest& nest, const ExpressionText& expression)
      : nest_(nest), expression_(expression), rank_(std::to_string(nest.rank)) {
    out_ = array("y", r.outputs[0].dtype, 0);
    for (const int k : expression.operands) {
      const auto i = static_cast<std::size_t>(k);
      operands_.push_back(
          array("x" + std::to_string(k), r.inputs[i].dtype, static_cast<int>(operands_.size()) + 1));
    }
    per_thread_ = size_of(r.outputs[0].dtype) <= 2 ? 2 * kFour : kFour;
  }

  std::int64_t per_thread() const { return per_thread_; }

  std::string text() const {
    std::string text = "#include \"map.h\"\n\n" + expression_.function + "\n";
    text += "[[kernel]] void map(constant MapArgs<" + std::to_string(operands_.size() + 1) +
            ">& args [[buffer(" + std::to_string(kBufferArgs) + ")]],\n" +
            parameter("device " + out_.type + "* y", kBufferMapY);
    int slot = kBufferMapOperands;
    for (const Array& x : operands_) text += parameter("const device " + x.type + "* " + x.name, slot++);
    if (expression_.divides) text += parameter("device Status* status", slot);
    text += "                uint3 at [[thread_position_in_grid]]) {\n";
    text += "  if (!has_row<" + rank_ + ">(args, at)) return;\n";
    text += "  const int64_t n = args.nest.extent[" + std::to_string(nest_.rank - 1) + "];\n";
    text += row(out_, "device ");
    for (const Array& x : operands_) text += row(x, "const device ");
    return text + loop() + "}\n";
  }

 private:
  Array array(std::string name, DType dtype, int operand) const {
    const std::int64_t step = nest_.step(operand);
    const Along along = step == 1 || nest_.inner() == 1 ? Along::kDense
                        : step == 0                     ? Along::kStill
                                                        : Along::kStrided;
    return {std::move(name), memory_type(dtype), register_class(dtype), along, operand};
  }

  static std::string parameter(const std::string& declaration, int slot) {
    return "                " + declaration + " [[buffer(" + std::to_string(slot) + ")]],\n";
  }

  // The start of the thread's row, and how far apart its elements are.
  std::string row(const Array& x, const std::string& space) const {
    const std::string operand = std::to_string(x.operand);
    std::string text = "  " + space + x.type + "* " + x.name + "_row = " + x.name + " + row_offset<" + rank_ +
                       ">(args, " + operand + ", at);\n";
    if (x.along == Along::kStrided)
      text += "  const int64_t " + x.name + "_step = step_of(args.nest, " + operand + ");\n";
    return text;
  }

  static std::string element(const Array& x, const std::string& i) {
    if (x.along == Along::kStill) return x.name + "_row[0]";
    return x.name + "_row[" + (x.along == Along::kDense ? i : i + " * " + x.name + "_step") + "]";
  }

  static std::string widened(const Array& x, const std::string& value) {
    return x.kind == 'b' ? value + " != 0" : std::string(register_type(x.kind)) + "(" + value + ")";
  }

  // The call for one element; `value` says what stands for an operand.
  template <class F>
  std::string call(F value) const {
    std::string text = out_.type + "(expression(";
    const char* comma = "";
    for (const Array& x : operands_) {
      text += comma + widened(x, value(x));
      comma = ", ";
    }
    if (expression_.divides) text += std::string(comma) + "status";
    return text + "))";
  }

  std::string loop() const {
    const std::string per_thread = std::to_string(per_thread_);
    std::string text = "  const int64_t first = int64_t(at.x) * " + per_thread + ";\n";
    text += "  for (int64_t i = first; i < first + " + per_thread + "; i += 4) {\n";
    text += "    if (i + 4 <= n) {\n" + four() + "    } else {\n";
    text += "      for (int64_t j = i; j < n; ++j) " + element(out_, "j") + " = " +
            call([&](const Array& x) { return element(x, "j"); }) + ";\n    }\n  }\n";
    return text;
  }

  std::string four() const {
    std::string text;
    for (const Array& x : operands_) {
      if (x.along == Along::kDense) {
        text += "      const vec<" + x.type + ", 4> " + x.name + "_four = four(" + x.name + "_row + i);\n";
      } else if (x.along == Along::kStill) {
        text += "      const " + x.type + " " + x.name + "_still = " + x.name + "_row[0];\n";
      }
    }
    const std::string value = call([](const Array& x) {
      return x.along == Along::kDense   ? x.name + "_four[j]"
             : x.along == Along::kStill ? x.name + "_still"
                                        : element(x, "(i + j)");
    });
    if (out_.along != Along::kDense)
      return text + "      NPU_UNROLL for (int j = 0; j < 4; ++j) " + element(out_, "(i + j)") + " = " +
             value + ";\n";
    text += "      vec<" + out_.type + ", 4> result;\n";
    text += "      NPU_UNROLL for (int j = 0; j < 4; ++j) result[j] = " + value + ";\n";
    return text + "      put_four(y_row + i, result);\n";
  }

  const Nest& nest_;
  const ExpressionText& expression_;
  std::string rank_;
  Array out_;
  std::vector<Array> operands_;
  std::int64_t per_thread_ = kFour;
};

// MapArgs for any number of operands; `descs` are those of the nest.
std::vector<std::byte> args_of(const Request& r, const Nest& nest,
                               const std::vector<const TensorDesc*>& descs) {
  const NestOf<1> head = nest_of<1>(r.op, nest);
  constexpr std::size_t kHead = sizeof(head) - sizeof(head.step);
  std::vector<std::byte> bytes(kHead + descs.size() * (sizeof(head.step) + sizeof(std::int64_t)));
  std::memcpy(bytes.data(), &head, kHead);
  for (std::size_t k = 0; k < descs.size(); ++k) {
    std::byte* const steps = bytes.data() + kHead + k * sizeof(head.step);
    std::memcpy(steps, nest.strides[k].data(), static_cast<std::size_t>(nest.rank) * sizeof(std::int64_t));
    const std::int64_t first = first_element(*descs[k]);
    std::memcpy(bytes.data() + kHead + descs.size() * sizeof(head.step) + k * sizeof(first), &first,
                sizeof(first));
  }
  return bytes;
}

// x along the row, y along the dimension before it, z over the rest: at most `deepest` of a threadgroup.
void over_nest(Dispatch& launch, const Nest& nest, std::int64_t per_thread, std::uint32_t deepest) {
  const std::int64_t columns = ceil_div(nest.inner(), static_cast<int>(per_thread));
  const std::int64_t lines = nest.rank > 1 ? nest.extent[static_cast<std::size_t>(nest.rank) - 2] : 1;
  const std::int64_t rest = nest.rows / lines;
  const auto fit = [](std::int64_t wanted, std::int64_t most) {
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(
        std::bit_ceil(static_cast<std::uint64_t>(wanted)), static_cast<std::uint64_t>(most)));
  };
  const std::uint32_t x = fit(columns, 256), y = fit(lines, 256 / x);
  const std::uint32_t z = fit(rest, std::min(deepest, 256 / (x * y)));
  launch.grid({ceil_div(columns, x), ceil_div(lines, y), ceil_div(rest, z)}, {x, y, z});
}

}  // namespace

namespace {

// One launch: a map whose operands fit a kernel.
Dispatch launch_of(const Request& r, const ExpressionText& expression) {
  std::vector<const TensorDesc*> descs = {&r.outputs[0]};
  for (const int k : expression.operands) descs.push_back(&r.inputs[static_cast<std::size_t>(k)]);
  std::vector<Shape> strides;
  for (const TensorDesc* desc : descs) strides.push_back(desc->strides);
  const Nest nest = make_nest(r.outputs[0].shape, strides);
  const MapWriter writer(r, nest, expression);
  Dispatch launch("", "map");
  launch.prologue = writer.text();
  launch.args = args_of(r, nest, descs);
  launch.output(kBufferMapY, 0, r);
  int slot = kBufferMapOperands;
  for (const int k : expression.operands) launch.input(slot++, k, r);
  if (expression.divides) launch.status(slot);
  over_nest(launch, nest, writer.per_thread(), r.caps.threads[2]);
  return launch;
}

// The result of a part that is not the last: dense, in the order of the op's result.
TensorDesc between(const TensorDesc& out, char type) {
  TensorDesc desc = out;
  desc.dtype = type == 'f' ? DType::kFloat32 : type == 'i' ? DType::kInt64 : DType::kBool;
  desc.alignment = 16;
  std::vector<std::size_t> order(out.shape.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::abs(out.strides[a]) < std::abs(out.strides[b]);
  });
  std::int64_t step = 1;
  for (const std::size_t d : order) {
    desc.strides[d] = step;
    step *= out.shape[d];
  }
  return desc;
}

// Launches for the parts of an expression, with what lies between them in the scratch.
class Parts {
 public:
  Parts(const Request& r, GpuKernel& kernel) : r_(r), kernel_(kernel) {}

  void add(const MapPart& part, bool last) {
    Op op = r_.op;
    op.attrs = MapAttrs{part.expr};
    Request request{{op, {}, {}, r_.threads}, r_.caps};
    for (const int operand : part.operands) {
      request.inputs.push_back(operand >= 0 ? r_.inputs[static_cast<std::size_t>(operand)]
                                            : room_of(operand).desc);
    }
    request.outputs = {last ? r_.outputs[0] : between(r_.outputs[0], part.expr.back().type)};
    Dispatch launch = launch_of(request, expression_text(part.expr, "expression"));
    if (!last) rooms_.push_back({request.outputs[0], scratch_});
    for (BufferUse& use : launch.buffers) {
      if (use.from == From::kOutput && !last) move(use, rooms_.back());
      if (use.from != From::kInput) continue;
      const int operand = part.operands[static_cast<std::size_t>(use.index)];
      use.index = operand;
      if (operand < 0) move(use, room_of(operand));
    }
    if (!last) scratch_ += (use_bytes(rooms_.back().desc) + 255) / 256 * 256;
    kernel_.add(std::move(launch));
    kernel_.set_scratch(scratch_);
  }

 private:
  struct Room {
    TensorDesc desc;
    std::int64_t at = 0;
  };
  const Room& room_of(int operand) const { return rooms_[static_cast<std::size_t>(-1 - operand)]; }
  static std::int64_t use_bytes(const TensorDesc& desc) {
    return desc.elements() * static_cast<std::int64_t>(size_of(desc.dtype));
  }
  static void move(BufferUse& use, const Room& room) {
    use.from = From::kScratch;
    use.index = 0;
    use.offset = room.at;
  }

  const Request& r_;
  GpuKernel& kernel_;
  std::vector<Room> rooms_;
  std::int64_t scratch_ = 0;
};

}  // namespace

KernelPtr make_map(const Request& r) {
  auto kernel = std::make_unique<GpuKernel>("map");
  const TensorDesc& out = r.outputs[0];
  if (out.elements() == 0) return kernel;
  const Expr& expr = std::get<MapAttrs>(r.op.attrs).expr;
  const ExpressionText expression = expression_text(expr, "expression");
  if (expression.operands.size() <= kMostOperands) {
    kernel->add(launch_of(r, expression));
  } else {
    const std::vector<MapPart> parts = split_expression(expr, kMostOperands);
    Parts launches(r, *kernel);
    for (std::size_t i = 0; i < parts.size(); ++i) launches.add(parts[i], i + 1 == parts.size());
  }
  kernel->set_cost(expression.cost * static_cast<double>(out.elements()));
  return kernel;
}

}  // namespace npu::gpu

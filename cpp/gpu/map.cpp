// Elementwise expressions: a kernel is written for each, with the expression, the dtypes and how operands
// move along a row in its text, and everything else in its arguments.
#include <algorithm>
#include <bit>
#include <optional>

#include "expression.h"
#include "launch.h"
#include "ops.h"

namespace npu::gpu {

namespace {

constexpr int kMostOperands = 28;  // Metal has 31 buffers; arguments, result and status take some
constexpr std::int64_t kFour = 4;

// How an operand moves along a row.
enum class Along { kDense, kStill, kStrided };

struct Array {
  std::string name, type;  // in memory
  char kind = 'f';         // register class
  Along along = Along::kDense;
  int place = 0;  // among the operands of the nest
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
    text += "[[kernel]] void map(constant NestOf<" + std::to_string(operands_.size() + 1) +
            ">& args [[buffer(0)]],\n                device " + out_.type + "* y [[buffer(1)]],\n";
    int slot = 2;
    for (const Array& x : operands_) text += parameter("const device " + x.type + "* " + x.name, slot++);
    if (expression_.divides) text += parameter("device Status* status", slot);
    text += "                uint3 at [[thread_position_in_grid]]) {\n";
    text += "  if (!has_row<" + rank_ + ">(args, at)) return;\n";
    text += "  const int64_t n = args.extent[" + std::to_string(nest_.rank - 1) + "];\n";
    text += row(out_, "device ");
    for (const Array& x : operands_) text += row(x, "const device ");
    return text + loop() + "}\n";
  }

 private:
  Array array(std::string name, DType dtype, int place) const {
    const std::int64_t step = nest_.step(place);
    const Along along = step == 1 || nest_.inner() == 1 ? Along::kDense
                        : step == 0                     ? Along::kStill
                                                        : Along::kStrided;
    return {std::move(name), memory_type(dtype), register_class(dtype), along, place};
  }

  static std::string parameter(const std::string& declaration, int slot) {
    return "                " + declaration + " [[buffer(" + std::to_string(slot) + ")]],\n";
  }

  // The start of the thread's row, and how far apart its elements are.
  std::string row(const Array& x, const std::string& space) const {
    const std::string place = std::to_string(x.place);
    std::string text = "  " + space + x.type + "* " + x.name + "_row = " + x.name + " + row_offset<" + rank_ +
                       ">(args, " + place + ", at);\n";
    if (x.along == Along::kStrided)
      text += "  const int64_t " + x.name + "_step = step_of(args, " + place + ");\n";
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
      return text + "      for (int j = 0; j < 4; ++j) " + element(out_, "(i + j)") + " = " + value + ";\n";
    text += "      vec<" + out_.type + ", 4> result;\n";
    text += "      for (int j = 0; j < 4; ++j) result[j] = " + value + ";\n";
    return text + "      put_four(y_row + i, result);\n";
  }

  const Nest& nest_;
  const ExpressionText& expression_;
  std::string rank_;
  Array out_;
  std::vector<Array> operands_;
  std::int64_t per_thread_ = kFour;
};

// The nest as kernels read it, for any number of operands.
std::vector<std::byte> nest_bytes(const Request& r, const Nest& nest) {
  const NestOf<1> head = nest_of<1>(r.op, nest);
  constexpr std::size_t kHead = sizeof(head) - sizeof(head.step);
  std::vector<std::byte> bytes(kHead + nest.strides.size() * sizeof(head.step));
  std::memcpy(bytes.data(), &head, kHead);
  for (std::size_t k = 0; k < nest.strides.size(); ++k) {
    for (std::size_t d = 0; d < static_cast<std::size_t>(nest.rank); ++d) {
      const std::int64_t step = nest.strides[k][d];
      std::memcpy(bytes.data() + kHead + k * sizeof(head.step) + d * sizeof(step), &step, sizeof(step));
    }
  }
  return bytes;
}

// x along the row, y along the dimension before it, z over the rest.
void over_nest(Dispatch& launch, const Nest& nest, std::int64_t per_thread) {
  const std::int64_t columns = ceil_div(nest.inner(), static_cast<int>(per_thread));
  const std::int64_t lines = nest.rank > 1 ? nest.extent[static_cast<std::size_t>(nest.rank) - 2] : 1;
  const std::int64_t rest = nest.rows / lines;
  const auto fit = [](std::int64_t wanted, std::int64_t most) {
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(
        std::bit_ceil(static_cast<std::uint64_t>(wanted)), static_cast<std::uint64_t>(most)));
  };
  const std::uint32_t x = fit(columns, 256), y = fit(lines, 256 / x), z = fit(rest, 256 / (x * y));
  launch.grid({ceil_div(columns, x), ceil_div(lines, y), ceil_div(rest, z)}, {x, y, z});
}

}  // namespace

Made make_map(const Request& r) {
  auto kernel = std::make_unique<GpuKernel>("map");
  const TensorDesc& out = r.outputs[0];
  if (out.elements() == 0) return kernel;
  const ExpressionText expression = expression_text(std::get<MapAttrs>(r.op.attrs).expr, "expression");
  if (expression.operands.size() > kMostOperands)
    unavailable(r.op, std::to_string(expression.operands.size()) + " operands in one expression");
  std::vector<Shape> strides = {out.strides};
  for (const int k : expression.operands) strides.push_back(r.inputs[static_cast<std::size_t>(k)].strides);
  const Nest nest = make_nest(out.shape, strides);
  const MapWriter writer(r, nest, expression);

  Dispatch launch("", "map");
  launch.prologue = writer.text();
  launch.args = nest_bytes(r, nest);
  launch.output(1, 0, r);
  int slot = 2;
  for (const int k : expression.operands) launch.input(slot++, k, r);
  if (expression.divides) launch.status(slot);
  over_nest(launch, nest, writer.per_thread());
  kernel->add(std::move(launch));
  kernel->set_cost(expression.cost * static_cast<double>(out.elements()));
  return kernel;
}

}  // namespace npu::gpu

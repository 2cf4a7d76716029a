#include "core/plan/pieces.h"

#include <algorithm>
#include <string>

namespace npu {

namespace {

constexpr double kCacheBytes = 1 << 20;   // of what one step reads and writes, to be found again by the next
constexpr double kLeastGain = 8 << 20;    // bytes of memory traffic; a step more costs a microsecond
constexpr std::int64_t kMostPieces = 16;  // of a batch: each has steps of its own

std::size_t at(int value) { return static_cast<std::size_t>(value); }

// Whether image n of the result depends on image n of the operands, and on nothing else of them.
bool treats_images_alone(const Op& op) {
  switch (op.kind) {
    case OpKind::kMap:
    case OpKind::kCopy:
    case OpKind::kConv:
    case OpKind::kPool:
    case OpKind::kAdaptivePool:
    case OpKind::kResize:
    case OpKind::kGridSample:
      return true;
    case OpKind::kNorm: {
      const auto& attrs = std::get<NormAttrs>(op.attrs);
      return attrs.kind == NormAttrs::Kind::kGroup ||
             attrs.axes < static_cast<std::int64_t>(op.inputs[0].shape.size());
    }
    case OpKind::kSoftmax:
      return std::get<SoftmaxAttrs>(op.attrs).axis > 0;
    case OpKind::kReduce: {
      const auto& axes = std::get<ReduceAttrs>(op.attrs).axes;
      return std::find(axes.begin(), axes.end(), 0) == axes.end();
    }
    case OpKind::kPad: {
      const auto& attrs = std::get<PadAttrs>(op.attrs);
      return !attrs.low.empty() && attrs.low[0] == 0 && attrs.high[0] == 0;
    }
    default:
      return false;
  }
}

// Whether dimension 0 of this operand runs with that of the result; weights and biases have others.
bool has_images(const Op& op, std::size_t input) {
  if (op.kind == OpKind::kConv) return input == 0 || input >= 3;
  return op.kind != OpKind::kNorm || input == 0;
}

class Pieces {
 public:
  explicit Pieces(const ProgramModel& m) : m_(m), divided_(m.values.size(), false) {}

  std::optional<ProgramModel> make() {
    if (!find_images()) return std::nullopt;
    choose_ops();
    if (ops_ < 2) return std::nullopt;
    return build();
  }

 private:
  // The number of images: dimension 0 of all inputs.
  bool find_images() {
    if (!m_.symbols.empty() || m_.inputs.empty()) return false;
    for (const ProgramOutput& output : m_.outputs) {
      if (output.alias >= 0) return false;
    }
    for (const ProgramInput& input : m_.inputs) {
      const Shape& shape = m_.values[at(input.value)].shape;
      if (input.state || shape.size() < 2 || (images_ > 0 && shape[0] != images_)) return false;
      images_ = shape[0];
      divided_[at(input.value)] = true;
    }
    each_ = (images_ + kMostPieces - 1) / kMostPieces;
    return images_ >= 2;
  }

  // As many of the first ops as save most.
  void choose_ops() {
    double gain = 0, best = kLeastGain;
    for (std::size_t i = 0; i < m_.main.size() && divides(m_.main[i]); ++i) {
      gain += gain_of(m_.main[i]);
      if (gain > best) {
        best = gain;
        ops_ = i + 1;
      }
    }
  }

  bool divides(const Op& op) {
    if (!treats_images_alone(op)) return false;
    std::int64_t extent = 0;
    for (const Operand& out : op.outputs) {
      if (!out.present()) continue;
      if (out.shape.empty() || out.shape[0] % images_ != 0 || (extent > 0 && out.shape[0] != extent))
        return false;
      extent = out.shape[0];
      if (!lies_by_image(out)) return false;
    }
    for (std::size_t k = 0; k < op.inputs.size(); ++k) {
      const Operand& in = op.inputs[k];
      if (!in.present()) continue;
      const bool divided = divided_[at(in.value)];
      if (!has_images(op, k)) {
        if (divided) return false;
      } else if (in.shape[0] != extent || !(divided ? lies_by_image(in) : in.strides[0] == 0)) {
        return false;
      }
    }
    for (const Operand& out : op.outputs) {
      if (out.present()) divided_[at(out.value)] = true;
    }
    return extent > 0;
  }

  std::int64_t image_elements(int value) const { return m_.values[at(value)].elements() / images_; }

  // Whether each image of the view lies in that image of the value, at the same place.
  bool lies_by_image(const Operand& operand) const {
    const Value& value = m_.values[at(operand.value)];
    const std::int64_t image = image_elements(operand.value), rows = operand.shape[0] / images_;
    if (value.shape.empty() || value.shape[0] % images_ != 0 || value.elements() == 0) return false;
    if (operand.strides[0] * rows != image && operand.shape[0] > 1) return false;
    std::int64_t low = operand.offset, high = operand.offset;
    for (std::size_t d = 0; d < operand.shape.size(); ++d) {
      const std::int64_t extent = d == 0 ? rows : operand.shape[d];
      if (extent == 0) return false;
      (operand.strides[d] < 0 ? low : high) += operand.strides[d] * (extent - 1);
    }
    return low >= 0 && high < image;
  }

  // Bytes of memory traffic that are saved.
  double gain_of(const Op& op) const {
    double image = 0, weights = 0;
    const auto add = [&](const Operand& operand, bool divided) {
      if (!operand.present()) return;
      const auto size = static_cast<double>(size_of(m_.values[at(operand.value)].dtype));
      double elements = size;
      for (std::size_t d = 0; d < operand.shape.size(); ++d) {
        if (operand.strides[d] != 0) elements *= static_cast<double>(operand.shape[d]);
      }
      (divided ? image : weights) += divided ? elements / static_cast<double>(images_) : elements;
    };
    for (const Operand& in : op.inputs) add(in, in.present() && divided_[at(in.value)]);
    for (const Operand& out : op.outputs) add(out, true);
    const auto all = static_cast<double>(images_), each = static_cast<double>(each_);
    const auto traffic = [](double bytes, double times) { return bytes > kCacheBytes ? bytes * times : 0; };
    return traffic(all * image, 1) - traffic(each * image, all / each) - weights * (all / each - 1);
  }

  // Values that the divided ops alone write and read: each piece has its own.
  std::vector<bool> passed_on() const {
    std::vector<bool> own(m_.values.size(), false);
    for (std::size_t i = 0; i < m_.main.size(); ++i) {
      for (const Operand& out : m_.main[i].outputs) {
        if (out.present() && i < ops_) own[at(out.value)] = true;
      }
    }
    for (std::size_t i = ops_; i < m_.main.size(); ++i) {
      for (const auto* operands : {&m_.main[i].inputs, &m_.main[i].outputs}) {
        for (const Operand& operand : *operands) {
          if (operand.present()) own[at(operand.value)] = false;
        }
      }
    }
    for (const ProgramOutput& output : m_.outputs) own[at(output.value)] = false;
    return own;
  }

  ProgramModel build() const {
    ProgramModel made = m_;
    made.main.clear();
    const std::vector<bool> own = passed_on();
    std::vector<int> local(m_.values.size(), -1);
    for (std::int64_t first = 0; first < images_; first += each_) {
      const std::int64_t count = std::min(each_, images_ - first);
      for (std::size_t v = 0; v < own.size(); ++v) {
        if (own[v]) local[v] = add_piece(made, v, first, count);
      }
      for (std::size_t i = 0; i < ops_; ++i) made.main.push_back(piece_of(m_.main[i], local, first, count));
    }
    made.main.insert(made.main.end(), m_.main.begin() + static_cast<std::ptrdiff_t>(ops_), m_.main.end());
    return made;
  }

  int add_piece(ProgramModel& made, std::size_t value, std::int64_t first, std::int64_t count) const {
    Value piece = m_.values[value];
    piece.name += " of image " + std::to_string(first);
    if (count > 1) piece.name += " to " + std::to_string(first + count - 1);
    piece.shape[0] = piece.shape[0] / images_ * count;
    made.values.push_back(std::move(piece));
    return static_cast<int>(made.values.size()) - 1;
  }

  Op piece_of(const Op& op, const std::vector<int>& local, std::int64_t first, std::int64_t count) const {
    Op piece = op;
    const auto cut = [&](Operand& operand) {
      if (!operand.present()) return;
      const std::size_t value = at(operand.value);
      operand.shape[0] = operand.shape[0] / images_ * count;
      if (local[value] >= 0) {
        operand.value = local[value];
      } else if (divided_[value]) {
        operand.offset += first * image_elements(operand.value);
        operand.whole = false;
      }
    };
    for (std::size_t k = 0; k < piece.inputs.size(); ++k) {
      if (has_images(op, k)) cut(piece.inputs[k]);
    }
    for (Operand& out : piece.outputs) cut(out);
    return piece;
  }

  const ProgramModel& m_;
  std::vector<bool> divided_;  // by value: holds images
  std::int64_t images_ = 0, each_ = 1;
  std::size_t ops_ = 0;  // the first ones, which are divided
};

}  // namespace

std::optional<ProgramModel> in_pieces(const ProgramModel& program) { return Pieces(program).make(); }

}  // namespace npu

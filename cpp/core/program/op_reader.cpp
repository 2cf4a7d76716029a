#include "core/program/op_reader.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "core/program/expr_reader.h"
#include "core/program/shapes.h"
#include "npu/error.h"

namespace npu {

namespace {

constexpr std::size_t kMostOperands = 64;  // of one op

Extent read_extent(Json json, std::string_view key, const std::vector<Symbol>& symbols,
                   const FileSpot& spot) {
  Extent extent;
  if (!json.is(JsonKind::kObject)) {
    extent.offset = spot.integer(json, key, 0, kLargestExtent);
    return extent;
  }
  const auto [symbol, scale, offset] = spot.fields(json, {"sym", "scale", "offset"});
  extent.symbol =
      static_cast<int>(spot.integer(*symbol, "sym", 0, static_cast<std::int64_t>(symbols.size()) - 1));
  extent.scale = spot.integer(*scale, "scale", 1, kLargestExtent);
  extent.offset = spot.integer(*offset, "offset", -kLargestExtent, kLargestExtent);
  return extent;
}

// offset + scale * symbol, or -1 when that is no extent.
std::int64_t extent_at(const Extent& extent, std::int64_t symbol) {
  std::int64_t value;
  if (__builtin_mul_overflow(extent.scale, symbol, &value) || value > 2 * kLargestExtent) return -1;
  value += extent.offset;
  return value > kLargestExtent ? -1 : value;
}

Operand read_operand(Json json, const ProgramModel& program, const FileSpot& spot) {
  Operand operand;
  const std::int64_t last = static_cast<std::int64_t>(program.values.size()) - 1;
  const auto value_of = [&](Json id) -> const Value& {
    operand.value = static_cast<int>(spot.integer(id, "value", 0, last));
    return program.values[static_cast<std::size_t>(operand.value)];
  };
  if (!json.is(JsonKind::kArray)) {
    const Value& value = value_of(json);
    operand.shape = value.shape;
    operand.extents = value.extents;
    operand.strides = row_major_strides(value.shape);
    return operand;
  }
  if (json.size() != 4) spot.refuse("a view is malformed", json.summary(), "[value, shape, strides, offset]");
  auto part = json.begin();
  const Value& value = value_of(*part);
  read_shape(*++part, "shape", program.symbols, spot, operand.shape, operand.extents);
  operand.strides = spot.integers(*++part, "strides", -kMostBytes, kMostBytes, kMaxRank);
  operand.offset = spot.integer(*++part, "offset", 0, kMostBytes);
  if (operand.strides.size() != operand.shape.size()) {
    spot.refuse("a view has different numbers of strides and extents", std::to_string(operand.strides.size()),
                std::to_string(operand.shape.size()));
  }
  operand.whole = covers(operand, value);
  if (operand.whole) operand.strides = row_major_strides(value.shape);
  return operand;
}

// Operands in the order of the table, absent ones included.
std::vector<Operand> read_operands(Json json, std::string_view key,
                                   const std::vector<std::string_view>& table, const ProgramModel& program,
                                   const FileSpot& spot) {
  std::vector<Operand> all;
  all.reserve(std::max(table.size(), spot.array(json, key, kMostOperands).size()));
  const bool open_ended = !table.empty() && table.back().ends_with('*');
  const std::size_t fixed = table.size() - (open_ended ? 1 : 0);
  if (json.size() > fixed && !open_ended) {
    spot.refuse("'" + std::string(key) + "' has too many operands", std::to_string(json.size()),
                std::to_string(fixed));
  }
  for (const Json item : json) {
    const bool may_be_absent = all.size() < fixed && table[all.size()].ends_with('?');
    if (!item.is(JsonKind::kNull)) {
      all.push_back(read_operand(item, program, spot));
    } else if (may_be_absent) {
      all.emplace_back();
    } else {
      spot.refuse("operand " + std::to_string(all.size()) + " in '" + std::string(key) +
                  "' must not be absent");
    }
  }
  while (all.size() < fixed) {
    const std::string_view name = table[all.size()];
    if (!name.ends_with('?'))
      spot.refuse("operand '" + std::string(name) + "' is missing in '" + std::string(key) + "'");
    all.emplace_back();
  }
  return all;
}

// What an epilogue loads before its extras: the accumulator, or both of a gated product.
std::size_t accumulators(const Op& op) {
  return std::visit(
      [](const auto& attrs) -> std::size_t {
        if constexpr (requires { attrs.halves; }) return attrs.halves ? 2 : 1;
        return requires { attrs.epilogue; } ? 1 : 0;
      },
      op.attrs);
}

// The classes of what ["in", k] loads: accumulators of an epilogue, then operands.
std::vector<char> expr_operands(const Op& op, const ProgramModel& program) {
  const int first = info_of(op.kind).expr_operand;
  if (first < 0) return {};
  std::vector<char> classes(accumulators(op), 'f');
  for (auto i = static_cast<std::size_t>(first); i < op.inputs.size(); ++i) {  // none of these is absent
    classes.push_back(register_class_of(program.values[static_cast<std::size_t>(op.inputs[i].value)].dtype));
  }
  return classes;
}

// Visits the attributes of an op; what it has not seen at the end is unknown.
class AttrReader {
 public:
  // Expressions are read last of an op's attributes: what they load may depend on the others.
  AttrReader(std::optional<Json> attrs, const Op& op, const ProgramModel& program, const FileSpot& spot)
      : attrs_(attrs), op_(op), program_(program), spot_(spot) {
    if (attrs_ && !attrs_->is(JsonKind::kObject))
      spot_.refuse("'attrs' has a wrong value", attrs_->summary(), "an object");
  }

  void field(std::string_view name, std::int64_t& member, bool required) {
    if (const auto value = find(name, required))
      member = spot_.integer(*value, name, -kLargestExtent, kLargestExtent);
  }
  void field(std::string_view name, double& member, bool required) {
    if (const auto value = find(name, required)) member = spot_.number(*value, name);
  }
  void field(std::string_view name, bool& member, bool required) {
    if (const auto value = find(name, required)) member = spot_.boolean(*value, name);
  }
  void field(std::string_view name, std::vector<std::int64_t>& member, bool required) {
    if (const auto value = find(name, required)) {
      member = spot_.integers(*value, name, -kLargestExtent, kLargestExtent, kMaxRank);
    }
  }
  void field(std::string_view name, std::vector<double>& member, bool required) {
    const auto value = find(name, required);
    if (!value) return;
    for (const Json item : spot_.array(*value, name, kMaxRank)) member.push_back(spot_.number(item, name));
  }
  void field(std::string_view name, Expr& member, bool required) {
    if (const auto value = find(name, required)) {
      member = read_expr(*value, name, expr_operands(op_, program_), spot_);
    }
  }
  template <class Enum>
  void choice(std::string_view name, std::initializer_list<std::string_view> names, Enum& member,
              bool required) {
    const auto value = find(name, required);
    if (!value) return;
    int i = 0;
    std::string all;
    for (const std::string_view choice : names) {
      if (spot_.text(*value, name) == choice) {
        member = static_cast<Enum>(i);
        return;
      }
      ++i;
      all += (all.empty() ? "" : ", ") + std::string(choice);
    }
    spot_.refuse("'" + std::string(name) + "' has a wrong value", value->summary(), "one of " + all);
  }

  void finish() const {
    if (!attrs_ || attrs_->size() == seen_.size()) return;
    for (auto at = attrs_->begin(); at != attrs_->end();) {
      const std::string& key = (*at).text();
      if (std::find(seen_.begin(), seen_.end(), key) == seen_.end()) {
        spot_.refuse("has an unknown attribute", quoted(key));
      }
      ++at;  // its value
      ++at;
    }
  }

 private:
  std::optional<Json> find(std::string_view name, bool required) {
    if (attrs_) {
      for (auto at = attrs_->begin(); at != attrs_->end();) {
        const bool here = (*at).text() == name;
        const Json value = *++at;
        ++at;
        if (!here) continue;
        seen_.push_back(name);
        return value;
      }
    }
    if (required) spot_.refuse("attribute '" + std::string(name) + "' is missing");
    return std::nullopt;
  }

  std::optional<Json> attrs_;
  const Op& op_;
  const ProgramModel& program_;
  const FileSpot& spot_;
  std::vector<std::string_view> seen_;
};

std::optional<OpKind> find_kind(std::string_view name) {
  const auto& table = op_table();
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (table[i].name == name) return static_cast<OpKind>(i);
  }
  return std::nullopt;
}

template <std::size_t... I>
Attrs default_attrs(OpKind kind, std::index_sequence<I...>) {
  Attrs attrs;
  const auto set = [&](auto index) {
    if (static_cast<std::size_t>(kind) == index.value) attrs.emplace<index.value>();
  };
  (set(std::integral_constant<std::size_t, I>()), ...);
  return attrs;
}

}  // namespace

void read_shape(Json json, std::string_view key, const std::vector<Symbol>& symbols, const FileSpot& spot,
                Shape& shape, std::vector<Extent>& extents) {
  shape.reserve(spot.array(json, key, kMaxRank).size());
  bool symbolic = false;
  for (const Json item : json) {
    const Extent extent = read_extent(item, key, symbols, spot);
    extents.push_back(extent);
    if (extent.symbol < 0) {
      shape.push_back(extent.offset);
      continue;
    }
    symbolic = true;
    const Symbol& symbol = symbols[static_cast<std::size_t>(extent.symbol)];
    shape.push_back(extent_at(extent, symbol.max));
    if (shape.back() < 0 || extent_at(extent, symbol.min) < 0) {
      spot.refuse("an extent is out of range for some " + quoted(symbol.name));
    }
  }
  if (!symbolic) std::vector<Extent>().swap(extents);
  if (!elements_of(shape))
    spot.refuse("'" + std::string(key) + "' is too large", {}, "fewer than 2^46 elements");
}

Op read_op(Json json, const ProgramModel& program, const FileSpot& outer) {
  const auto [kind, name, in, out, attrs, nodes, module] =
      outer.fields(json, {"op", "name", "in", "out", "attrs?", "nodes?", "module?"});
  Op op;
  op.name = outer.name(*name, "name");
  const FileSpot spot{outer.area, outer.where, outer.subject + " " + quoted(op.name)};
  const auto match = find_kind(spot.text(*kind, "op"));
  if (!match) {
    spot.refuse("there is no such op", kind->summary(), {},
                "a newer release of npu-simulation, or compiling again");
  }
  op.kind = *match;
  if (nodes) op.nodes = spot.texts(*nodes, "nodes");
  if (module) op.module = spot.text(*module, "module");
  const OpInfo& info = info_of(op.kind);
  op.inputs = read_operands(*in, "in", info.inputs, program, spot);
  op.outputs = read_operands(*out, "out", info.outputs, program, spot);
  op.attrs = default_attrs(op.kind, std::make_index_sequence<std::variant_size_v<Attrs>>());
  AttrReader reader(attrs, op, program, spot);
  std::visit([&](auto& members) { members.visit(reader); }, op.attrs);
  reader.finish();
  return op;
}

}  // namespace npu

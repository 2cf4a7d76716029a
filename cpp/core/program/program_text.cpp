#include <algorithm>
#include <initializer_list>
#include <string>

#include "core/program/expr_text.h"
#include "core/program/program.h"
#include "npu/error.h"

namespace npu {

namespace {

// A name from the file; quoted when it could be mistaken for something else.
std::string printable(const std::string& name) {
  const auto plain = [](unsigned char c) {
    return c > 0x20 && c < 0x7f && c != '"' && c != '\\' && c != '#';
  };
  return !name.empty() && std::all_of(name.begin(), name.end(), plain) ? name : quoted(name);
}

std::string list_text(const Shape& numbers) {
  std::string text;
  for (const std::int64_t n : numbers) text += (text.empty() ? "" : ",") + std::to_string(n);
  return text;
}

// Collects the attributes of an op as texts.
struct AttrTexts {
  struct Item {
    std::string_view name;
    std::string text;
    bool required;
  };
  bool epilogue;
  std::vector<Item> items = {};

  void add(std::string_view name, std::string text, bool required) {
    items.push_back({name, std::move(text), required});
  }

  void field(std::string_view name, const std::int64_t& member, bool required) {
    add(name, std::to_string(member), required);
  }
  void field(std::string_view name, const double& member, bool required) {
    add(name, number_text(member), required);
  }
  void field(std::string_view name, const bool& member, bool required) {
    add(name, member ? "true" : "false", required);
  }
  void field(std::string_view name, const std::vector<std::int64_t>& member, bool required) {
    add(name, "[" + list_text(member) + "]", required);
  }
  void field(std::string_view name, const std::vector<double>& member, bool required) {
    std::string text;
    for (const double number : member) text += (text.empty() ? "" : ",") + number_text(number);
    add(name, "[" + text + "]", required);
  }
  void field(std::string_view name, const Expr& member, bool required) {
    add(name, "\"" + expr_text(member, epilogue) + "\"", required);
  }
  template <class Enum>
  void choice(std::string_view name, std::initializer_list<std::string_view> names, const Enum& member,
              bool required) {
    add(name, std::string(names.begin()[static_cast<std::size_t>(member)]), required);
  }
};

struct ProgramText {
  const ProgramModel& program;
  std::string text = {};

  const Value& value(int id) const { return program.values[static_cast<std::size_t>(id)]; }

  std::string extent_text(const Extent& extent) const {
    if (extent.symbol < 0) return std::to_string(extent.offset);
    std::string out = extent.scale == 1 ? "" : std::to_string(extent.scale) + "*";
    out += printable(program.symbols[static_cast<std::size_t>(extent.symbol)].name);
    if (extent.offset > 0) out += '+';
    return extent.offset == 0 ? out : out + std::to_string(extent.offset);
  }

  std::string shape_of(const Shape& shape, const std::vector<Extent>& extents) const {
    if (extents.empty()) return list_text(shape);
    std::string out;
    for (const Extent& extent : extents) out += (out.empty() ? "" : ",") + extent_text(extent);
    return out;
  }

  std::string typed(int id) const {
    const Value& v = value(id);
    return "%" + std::to_string(id) + " " + std::string(dtype_name(v.dtype)) + "[" +
           shape_of(v.shape, v.extents) + "]";
  }

  // %3, or %3[2,2 by 4,1 at 5]: the extents, the strides and where it starts.
  std::string operand(const Operand& x) const {
    if (!x.present()) return "-";
    std::string out = "%" + std::to_string(x.value);
    if (x.whole) return out;
    out += "[" + shape_of(x.shape, x.extents) + " by " + list_text(x.strides);
    if (x.offset != 0) out += " at " + std::to_string(x.offset);
    return out + "]";
  }

  std::string result(const Operand& x) const {
    if (!x.present()) return "-";
    return x.whole ? typed(x.value) : operand(x) + " " + std::string(dtype_name(value(x.value).dtype));
  }

  static bool is_gated(const Op& op) {
    const auto* const matmul = std::get_if<MatmulAttrs>(&op.attrs);
    return matmul != nullptr && matmul->halves;
  }

  // The first one speaks for itself, the others are named as in the table of ops.
  std::string inputs(const Op& op) const {
    const auto& table = info_of(op.kind).inputs;
    std::string out;
    for (std::size_t i = 0; i < op.inputs.size(); ++i) {
      const std::string_view entry = table[std::min(i, table.size() - 1)];
      if (!op.inputs[i].present()) continue;
      if (!out.empty()) out += ", ";
      std::string name(entry.substr(0, entry.find_first_of("?*")));
      if (name == "extra") name = "e" + std::to_string(i + 2 - table.size() + (is_gated(op) ? 1 : 0));
      if (i > 0 && name != "operands") out += name + "=";
      out += operand(op.inputs[i]);
    }
    return out;
  }

  void ops(const char* function, const std::vector<Op>& all) {
    text +=
        std::string(function) + ": " + std::to_string(all.size()) + (all.size() == 1 ? " op\n" : " ops\n");
    for (const Op& op : all) {
      std::string results;
      for (const Operand& x : op.outputs) results += (results.empty() ? "" : ", ") + result(x);
      text += "  " + results + " = " + std::string(info_of(op.kind).name) + "(" + inputs(op) + ")" +
              attributes_text(op) + "  # " + printable(op.name) +
              (op.module.empty() ? "" : " (" + printable(op.module) + ")") + "\n";
    }
  }

  void header() {
    text += "program " + printable(program.model_name);
    if (!program.producer.empty()) text += " by " + quoted(program.producer);
    text += "\n";
    for (const Symbol& s : program.symbols) {
      text += "symbol " + printable(s.name) + ": " + std::to_string(s.min) + " to " + std::to_string(s.max) +
              "\n";
    }
    for (const ProgramInput& input : program.inputs) {
      text += "input " + printable(input.name) + ": " + typed(input.value) +
              (input.required ? "" : ", optional") + (input.state ? ", state" : "") + "\n";
    }
    for (const ProgramOutput& output : program.outputs) {
      text += "output " + printable(output.name) + ": " + typed(output.value);
      for (const std::string& name : output.names) text += ", also " + printable(name);
      if (output.alias >= 0) {
        text += ", updates " + printable(program.inputs[static_cast<std::size_t>(output.alias)].name);
      }
      text += "\n";
    }
    for (const ProgramWeight& weight : program.weights) {
      text += "weight " + printable(weight.name) + ": " + typed(weight.value);
      for (const std::string& name : weight.ties) text += ", also " + printable(name);
      text += "\n";
    }
    for (const ProgramConstant& constant : program.constants) {
      text += "constant " + printable(constant.name) + ": " + typed(constant.value) + "\n";
    }
  }
};

}  // namespace

std::string attributes_text(const Op& op) {
  const bool epilogue = op.kind != OpKind::kMap;
  AttrTexts actual{epilogue}, usual{epilogue};
  Attrs attrs = op.attrs;
  std::visit(
      [&](auto& members) {
        members.visit(actual);
        std::decay_t<decltype(members)>().visit(usual);
      },
      attrs);
  std::string out;
  for (std::size_t i = 0; i < actual.items.size(); ++i) {
    const auto& item = actual.items[i];
    if (item.required || item.text != usual.items[i].text)
      out += " " + std::string(item.name) + "=" + item.text;
  }
  return out;
}

std::string program_text(const ProgramModel& program) {
  ProgramText listing{program};
  listing.header();
  if (!program.prepare.empty()) listing.ops("prepare", program.prepare);
  listing.ops("main", program.main);
  return std::move(listing.text);
}

}  // namespace npu

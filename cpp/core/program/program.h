// A program in memory, checked: every number in it can be trusted.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/program/opset.gen.h"
#include "npu/buffer.h"
#include "npu/dtype.h"

namespace npu {

inline constexpr int kMaxRank = 8;
inline constexpr std::uint32_t kFormatVersion = 3;  // 1: products had no scales and offsets; 2: and no units

// An extent: offset + scale * symbol, or just offset.
struct Extent {
  std::int64_t offset = 0;
  std::int64_t scale = 0;
  int symbol = -1;
};

struct Symbol {
  std::string name;
  std::int64_t min = 0;
  std::int64_t max = 0;
};

using Shape = std::vector<std::int64_t>;

struct Value {
  std::string name;
  DType dtype = DType::kFloat32;
  Shape shape;                  // for the largest values of the symbols
  std::vector<Extent> extents;  // empty when no extent depends on a symbol
  std::int64_t elements() const;
  std::int64_t bytes() const { return elements() * static_cast<std::int64_t>(size_of(dtype)); }
};

// A view of a value, in elements of its row-major order.
struct Operand {
  int value = -1;  // -1: absent
  Shape shape;
  Shape strides;
  std::int64_t offset = 0;
  std::vector<Extent> extents;  // empty when no extent depends on a symbol
  bool whole = true;            // the entire value, in its own shape
  bool present() const { return value >= 0; }
};

struct Op {
  OpKind kind = OpKind::kMap;
  std::string name;
  std::vector<std::string> nodes;  // of the IR
  std::string module;
  std::vector<Operand> inputs;  // in the order of the op table; absent ones have value -1
  std::vector<Operand> outputs;
  Attrs attrs;
};

struct ProgramInput {
  std::string name;
  int value = -1;
  bool required = true;
  bool state = false;
};

struct ProgramOutput {
  std::string name;
  int value = -1;
  std::vector<std::string> names;  // further ones it answers to
  int alias = -1;                  // index of the input that it updates in place
};

struct ProgramWeight {
  std::string name;
  int value = -1;
  std::vector<std::string> ties;
};

struct ProgramConstant {
  std::string name;
  int value = -1;
  std::int64_t offset = 0;
};

struct ProgramModel {
  std::string model_name;
  std::string producer;
  std::vector<Symbol> symbols;
  std::vector<Value> values;
  std::vector<ProgramInput> inputs;
  std::vector<ProgramOutput> outputs;
  std::vector<ProgramWeight> weights;
  std::vector<ProgramConstant> constants;
  std::vector<Op> prepare;
  std::vector<Op> main;
  std::span<const std::byte> constant_data;
  std::shared_ptr<const void> keep_alive;  // of constant_data
};

// Reads the bytes of a .npubin file; trusts nothing in them. `where` names them in errors. The model's
// constants point into `bytes`, which `keep_alive` keeps.
ProgramModel read_program(std::span<const std::byte> bytes, const std::string& where,
                          std::shared_ptr<const void> keep_alive);

// The rules of docs/program-format.md that go beyond syntax: views inside their values, shapes and dtypes
// that each op takes, values written once and before they are read. Called by read_program.
void check_program(const ProgramModel& program, const std::string& where);

// A constant; copied where it is not aligned for vectors and 64-bit elements.
Buffer bind_constant(const ProgramModel& program, const ProgramConstant& constant);

// The attributes that differ from their defaults; equal texts mean equal attributes.
std::string attributes_text(const Op& op);

// A readable listing.
std::string program_text(const ProgramModel& program);

}  // namespace npu

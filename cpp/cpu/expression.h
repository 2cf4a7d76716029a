// Elementwise expressions, compiled to steps over blocks of elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/program/opset.gen.h"
#include "cpu/fused.h"
#include "cpu/micro.h"
#include "npu/dtype.h"

namespace npu::cpu {

class Expression {
 public:
  Expression(const Expr& expr, const std::vector<DType>& operands, DType out);

  std::size_t scratch_bytes() const { return scratch_bytes_; }  // of one thread; 64-byte aligned
  double cost() const { return cost_; }                         // operations per element, roughly

  // One row: element i of operand k lies at operands[k] + i * strides[k] (in elements). `out` may be an
  // operand that has the same elements in the same memory.
  void run(std::int64_t n, const void* const* operands, const std::int64_t* strides, void* out,
           std::int64_t out_stride, std::byte* scratch) const;

  // Rows of one block: rows * n <= kExprBlock.
  struct Tile {
    std::int64_t rows = 1, n = 0;
    const void* const* operands = nullptr;
    const std::int64_t *row_strides = nullptr, *strides = nullptr;  // row_strides may be null for one row
    // [operand] where rows start that are not evenly spaced; either pointer may be null.
    const std::int64_t* const* starts = nullptr;
    void* out = nullptr;
    std::int64_t out_row_stride = 0, out_stride = 1;
    const std::int64_t* out_starts = nullptr;
  };

  // For many tiles: begin() once, for tiles of at most `longest` elements. What the operands point to must
  // not change between them (but for the results).
  void begin(std::byte* scratch, std::int64_t longest) const;
  void run_tile(const Tile& tile, std::byte* scratch) const;

  // Whether tiles with these strides (of one element along a row) may have rows of any length: nothing of
  // them is held in registers. `one_row`: all elements follow each other.
  bool streams(const std::int64_t* strides, std::int64_t out_stride, bool one_row) const;
  static constexpr std::int64_t kShortestRow = 16;  // that streams where rows are not one after the other

  // A step of the compiled form; public for the loops in expression_steps.cpp.
  struct Step {
    ExprOp op = ExprOp::kIn;        // kIn: fused steps
    char takes = 'f', gives = 'f';  // register classes; of kWhere the class of the chosen values
    int args[3] = {};               // slots
    int out = 0;
    DType dtype = DType::kFloat32;     // of kCast
    std::size_t first = 0, count = 0;  // of the fused ones
  };

 private:
  enum class Lies : std::uint8_t { kNowhere, kRegister, kOperand, kOut, kLocal, kNumber, kSaved };
  struct FusedRef {
    FusedOp op;
    Lies lies = Lies::kNowhere;
    int slot = 0;
  };
  struct Rows;  // how a tile is walked
  struct Constant {
    int slot;
    char type;
    double number;
    std::int64_t integer;
    bool filled;  // a whole register, not one element
  };
  struct Loaded {  // what a register of an operand holds
    const void* from;
    std::int64_t count;
  };
  struct Builder;
  void build(const Expr& expr);

  // What a register of this class holds.
  DType native(char type) const {
    return type == 'f' ? DType::kFloat32 : type == 'i' ? integer_ : DType::kBool;
  }
  std::size_t register_bytes(char type) const {
    return static_cast<std::size_t>(kExprBlock) * size_of(native(type));
  }

  bool stores_directly() const;
  Rows rows_of(const Tile& tile) const;
  void run_fused(const Step& step, const Tile& tile, const Rows& rows, std::byte* out,
                 std::byte* scratch) const;
  void run_blocks(const Step& step, const std::byte** args, std::byte* y, std::int64_t n) const;
  static std::int64_t total(const Tile& tile) { return tile.rows * tile.n; }
  void find_operand(int k, const Tile& tile, const Rows& rows, std::byte* scratch, FusedStep& to) const;
  void load(int operand, const Tile& tile, std::byte* scratch) const;
  void load_column(int operand, const Tile& tile, std::byte* scratch) const;
  void load_rows(int operand, const Tile& tile, std::byte* to) const;
  void load_one(DType dtype, const std::byte* x, std::int64_t stride, std::int64_t n, std::byte* y) const;
  void store_one(const std::byte* x, std::byte* y, std::int64_t stride, std::int64_t n) const;
  void store(const Tile& tile, const std::byte* from) const;

  const Micro* micro_;
  std::vector<DType> operands_;
  DType out_;
  DType integer_ = DType::kInt64;  // in which integers are computed
  char out_type_ = 'f';
  std::vector<int> used_;        // operands
  std::vector<int> registers_;   // [operand] byte offset in the scratch
  std::vector<bool> as_stored_;  // [operand] may be read where it lies, in any rows
  std::vector<Constant> constants_;
  std::vector<Step> steps_;
  std::vector<FusedRef> fused_;
  bool ends_fused_ = false;
  int zero_ = -1;     // slot of a constant, where fused steps want it
  int result_ = 0;    // slot of the result
  int out_slot_ = 0;  // where the last step writes if it cannot write to the output
  std::size_t scratch_bytes_ = 0;
  double cost_ = 0;
};

// What a step does to n elements in registers.
struct StepKinds {
  DType integer = DType::kInt64;  // what registers of integers hold
  bool half = false;              // whether floats are rounded to 16 bits in the end
};
void run_step(const Micro& micro, const StepKinds& kinds, const Expression::Step& step,
              const std::byte* const* args, std::byte* y, std::int64_t n);

constexpr char register_class(DType dtype) {
  return is_float(dtype) ? 'f' : dtype == DType::kBool ? 'b' : 'i';
}

}  // namespace npu::cpu

// Steps of an expression as a small machine: some vectors of floats in an accumulator, as many masks beside
// it, and room to save one of each.
#pragma once

#include <cstdint>

namespace npu::cpu {

// What is done with the accumulator `a`, the mask `m` and the operand `b`.
enum class FusedOp : std::uint8_t {
  kLoad,      // a = b
  kLoadInt8,  // of integers, rounded to float32
  kLoadUInt8,
  kLoadInt16,
  kLoadInt32,
  kLoadInt64,
  kStore,  // b = a
  kStoreF16,
  kStoreBF16,
  kSave,  // for FusedFrom::kSaved
  kAdd,   // a = a + b, and so on
  kSub,
  kSubFrom,  // b - a
  kMul,
  kDiv,
  kDivInto,  // b / a
  kMax,      // NaN wins
  kMin,
  kCopysign,   // a with the sign of b
  kSignOf,     // b with the sign of a
  kWhereSet,   // a where the mask is set, else b
  kWhereElse,  // b where the mask is set, else a
  kSquare,
  kNeg,
  kAbs,
  kSign,
  kRelu,
  kReciprocal,
  kSqrt,
  kRsqrt,
  kFloor,
  kCeil,
  kRound,
  kTrunc,
  kRoundF16,
  kRoundBF16,
  kFromMask,  // a = 1 where the mask is set, else 0
  kEq,        // m = a == b, and so on
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
  kIsnan,
  kIsinf,
  kNot,  // m = !m
  kAnd,  // m = m && b: of masks, as the next two
  kOr,
  kXor,
  kLoadMask,  // m = b
  kStoreMask,
  kSaveMask,
  kLoadBools,  // of bytes
  kStoreBools,
};

// How the elements of an operand lie: as many float32 as results, a single one for a row, as many of 16 bits,
// or in what was saved.
enum class FusedFrom : std::uint8_t { kFloats, kOne, kF16, kBF16, kSaved };

// Element i of row r of an operand lies r * row_step + i * step bytes after x.
struct FusedStep {
  FusedOp op;
  FusedFrom from;
  std::int64_t step;  // 0: the same for all groups of elements of a row
  std::int64_t row_step;
  void* x;
};

inline constexpr std::int64_t kFusedGroup = 128;  // elements in the accumulator, at most

}  // namespace npu::cpu

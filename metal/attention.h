// What the kernels of attention share: whose rows they make, and what those see.
#pragma once

#include "nest.h"

constant int kMask [[function_constant(kFcAttentionMask)]];  // MaskKind
constant bool kCausal [[function_constant(kFcAttentionCausal)]];
constant bool kNanRows [[function_constant(kFcAttentionNanRows)]];  // what sees nothing becomes NaN, not zero
constant bool kInt8 [[function_constant(kFcAttentionInt8)]];        // k and v, with a scale for each row

// Addends so far below others leave nothing of a weight, whatever its score is.
constant constexpr float kFarBelow = -1e30f, kOther = -1e29f;

// One of the rows that share a head of k and v: their heads vary fastest.
struct QueryRow {
  int head, row;
  int64_t q, mask, out;  // where it starts

  QueryRow(constant AttentionArgs& args, int batch, int group, int index) {
    row = index / args.shared;
    head = group * args.shared + (index - row * args.shared);
    q = batch * args.q_step[0] + head * args.q_step[1] + row * args.q_step[2];
    mask = batch * args.mask_step[0] + head * args.mask_step[1] + row * args.mask_step[2];
    out = batch * args.out_step[0] + head * args.out_step[1] + row * args.out_step[2];
  }
};

// Elements of k and v, which are of T or int8; an int8 buffer may be bound anywhere.
template <typename T>
inline const device T* stored_at(const device T* x, int64_t at) {
  return kInt8 ? (const device T*)((const device char*)x + at) : x + at;
}
template <typename T>
inline float stored(const device T* x, int64_t at) {
  return kInt8 ? float(((const device char*)x)[at]) : float(x[at]);
}
inline float row_scale(const device float* scales, int64_t at) { return kInt8 ? scales[at] : 1.0f; }

template <typename T>
inline float load_mask(const device char* mask, int64_t at) {
  if (MaskKind(kMask) == MaskKind::kBool) return mask[at] != 0 ? 0.0f : -INFINITY;
  if (MaskKind(kMask) == MaskKind::kFloat) return ((const device float*)mask)[at];
  return float(((const device T*)mask)[at]);
}

// What is added to the score of column t; -inf: it is not seen, whatever its score is.
template <typename T>
inline float addend_of(constant AttentionArgs& args, const device char* mask, int64_t mask_at, int row,
                       int t) {
  if (t >= args.length || (kCausal && t > row)) return -INFINITY;
  if (MaskKind(kMask) == MaskKind::kNone) return 0.0f;
  return load_mask<T>(mask, mask_at + t * args.mask_step[3]);
}

// Whether a row sees anything beside what is far below; asked by a simdgroup.
template <typename T>
inline bool sees_other(constant AttentionArgs& args, const device char* mask, int64_t mask_at, int lane) {
  for (int t = 0; t < args.length; t += int(kSimd)) {
    const bool other =
        t + lane < args.length && !(load_mask<T>(mask, mask_at + (t + lane) * args.mask_step[3]) <= kOther);
    if (simd_any(other)) return true;
  }
  return false;
}

// Rows of a simdgroup of which it is known what they see.
struct Sight {
  uint known = 0, others = 0;

  // Whether columns count for nothing in a row, all of whose addends here are far below.
  template <typename T>
  bool spares(constant AttentionArgs& args, const device char* mask, int64_t mask_at, int row, int lane) {
    const uint bit = 1u << row;
    if ((known & bit) == 0) {
      known |= bit;
      if (sees_other<T>(args, mask, mask_at, lane)) others |= bit;
    }
    return (others & bit) != 0;
  }
};

// What is left of sums that were taken below one peak when the peak is another one.
inline float kept_below(float before, float now) { return before == now ? 1.0f : precise::exp(before - now); }
inline float weight_of(float score, float most) {
  return score == -INFINITY ? 0.0f : precise::exp(score - most);
}

inline float divided(float sum, float total) {
  if (total == 0.0f) return kNanRows ? NAN : 0.0f;
  return sum / total;
}

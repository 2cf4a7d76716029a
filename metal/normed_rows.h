// Products with few rows that are normalised on the way: every threadgroup does the whole norm of its rows,
// which costs less than waiting for a launch that does it once.
#pragma once

#include "matmul_rows.h"
#include "norm.h"

constant bool kRms [[function_constant(kFcNormedRowsRms)]];
constant int kNormWeight [[function_constant(kFcNormedRowsWeight)]];  // ParameterKind
constant int kNormBias [[function_constant(kFcNormedRowsBias)]];
constant bool kHasNormWeight = kNormWeight != int(ParameterKind::kNone);
constant bool kHasNormBias = kNormBias != int(ParameterKind::kNone);

#define NPU_NORM_PARAMETERS                                                                              \
  const device char *norm_weight [[buffer(kBufferNormedRowsWeight), function_constant(kHasNormWeight)]], \
      const device char *norm_bias [[buffer(kBufferNormedRowsBias), function_constant(kHasNormBias)]]

constant constexpr int kMostQuick = 8;  // elements of a row that a thread keeps in registers

// Four elements at a multiple of as many bytes.
inline float4 four_of(const threadgroup float* x) { return *(const threadgroup float4*)x; }
inline float4 four_of(const threadgroup half* x) { return float4(*(const threadgroup half4*)x); }
inline float4 four_of(const threadgroup bfloat* x) {
  return as_type<float4>(uint4(*(const threadgroup ushort4*)x) << 16);
}

// Rows in threadgroup memory; those that are not there repeat the last one.
template <typename T, int kRows>
struct NormalRows {
  const threadgroup T* row[kRows];

  NormalRows(constant NormedRowsArgs& args, const threadgroup T* first) {
    const int last = int(inner_of(args.matmul.product.rows)) - 1;
    NPU_UNROLL
    for (int r = 0; r < kRows; ++r) row[r] = first + min(r, last) * args.row_step;
  }
  float one(int r, int k) const { return float(row[r][k]); }
  float4 four(int r, int k) const { return four_of(row[r] + k); }
};

// The mean and spread of each row; each simdgroup's share goes to `room`. The rows are left in
// `normal`, as they are, by the threads that will read them again.
template <typename T>
inline void measure(threadgroup T* normal, threadgroup Spread* room, constant NormedRowsArgs& args,
                    const device T* x, Spot at) {
  const int rows = int(inner_of(args.matmul.product.rows)), depth = args.matmul.product.depth;
  for (int r = 0; r < rows; ++r) {
    const device T* from = x + int64_t(r) * step_of(args.matmul.product.rows, NPU_LEFT);
    const float centre = kRms ? 0.0f : float(*from);
    Spread spread = Spreads::none();
    for (int i = int(at.simdgroup) * int(kSimd) + int(at.lane); i < depth;
         i += kStreamSimdgroups * int(kSimd)) {
      const T element = from[int64_t(i) * args.matmul.left_depth];
      normal[r * args.row_step + i] = element;
      spread = Spreads::add(spread, float(element) - centre, uint(i));
    }
    spread = across_lanes<Spreads>(spread);
    if (at.lane == 0) room[r * kStreamSimdgroups + int(at.simdgroup)] = spread;
  }
}

// The rows of a block, as a norm would store them.
template <typename T>
inline void normalise(threadgroup T* normal, threadgroup Spread* room, constant NormedRowsArgs& args,
                      const device T* x, const device char* weight, const device char* bias, Spot at) {
  measure(normal, room, args, x, at);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const int rows = int(inner_of(args.matmul.product.rows)), depth = args.matmul.product.depth;
  for (int r = 0; r < rows; ++r) {
    const float centre = kRms ? 0.0f : float(x[int64_t(r) * step_of(args.matmul.product.rows, NPU_LEFT)]);
    Spread spread = Spreads::none();
    for (int s = 0; s < kStreamSimdgroups; ++s)
      spread = Spreads::merge(spread, room[r * kStreamSimdgroups + s]);
    const Normal row = normal_of(spread, centre, float(depth), args.eps, kRms);
    for (int i = int(at.simdgroup) * int(kSimd) + int(at.lane); i < depth;
         i += kStreamSimdgroups * int(kSimd)) {
      float result = row.of(float(normal[r * args.row_step + i]));
      if (kHasNormWeight) result *= parameter<T>(weight, ParameterKind(kNormWeight), i * args.weight_step);
      if (kHasNormBias) result += parameter<T>(bias, ParameterKind(kNormBias), i * args.bias_step);
      normal[r * args.row_step + i] = T(result);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}

// One row of an RMS norm whose elements fit the registers of its threads: the weights are there before it is.
template <typename T>
inline void normalise_quickly(threadgroup T* normal, threadgroup Spread* room, constant NormedRowsArgs& args,
                              const device T* x, const device char* weight, Spot at) {
  constexpr int kThreads = kStreamSimdgroups * int(kSimd);
  const int depth = args.matmul.product.depth, mine = int(at.simdgroup) * int(kSimd) + int(at.lane);
  float weights[kMostQuick], values[kMostQuick];
  if (!kRightConstant) NPU_INPUTS_READY;
  NPU_UNROLL
  for (int u = 0; u < kMostQuick; ++u) {
    const int i = mine + u * kThreads;
    weights[u] = 1.0f;
    if (kHasNormWeight && i < depth)
      weights[u] = parameter<T>(weight, ParameterKind(kNormWeight), i * args.weight_step);
  }
  NPU_INPUTS_READY;
  Spread spread = Spreads::none();
  NPU_UNROLL
  for (int u = 0; u < kMostQuick; ++u) {
    const int i = mine + u * kThreads;
    values[u] = i < depth ? float(x[int64_t(i) * args.matmul.left_depth]) : 0.0f;
  }
  NPU_UNROLL
  for (int u = 0; u < kMostQuick; ++u) {
    if (mine + u * kThreads < depth) spread = Spreads::add(spread, values[u], uint(mine + u * kThreads));
  }
  spread = across_lanes<Spreads>(spread);
  if (at.lane == 0) room[at.simdgroup] = spread;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  spread = Spreads::none();
  for (int s = 0; s < kStreamSimdgroups; ++s) spread = Spreads::merge(spread, room[s]);
  const Normal row = normal_of(spread, 0.0f, float(depth), args.eps, true);
  NPU_UNROLL
  for (int u = 0; u < kMostQuick; ++u) {
    const int i = mine + u * kThreads;
    if (i >= depth) continue;
    float result = row.of(values[u]);
    if (kHasNormWeight) result *= weights[u];
    normal[i] = T(result);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}

// Gives the rows once they are there, and normal.
template <typename T, int kRows>
struct NormalReady {
  typedef NormalRows<T, kRows> Left;
  threadgroup T* normal;
  threadgroup Spread* room;
  constant NormedRowsArgs& args;
  const device T* x;
  const device char* weight;
  const device char* bias;
  Spot at;

  Left operator()() const {
    if (kRows == 1 && kRms && !kHasNormBias &&
        args.matmul.product.depth <= kMostQuick * kStreamSimdgroups * int(kSimd)) {
      normalise_quickly(normal, room, args, x, weight, at);
    } else {
      NPU_INPUTS_READY;
      normalise(normal, room, args, x, weight, bias, at);
    }
    return Left(args, normal);
  }
};

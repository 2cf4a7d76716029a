// Layer, RMS and group norms of rows. Dense rows that fit are kept in registers; others are read twice. Group
// norms of large images with channels innermost go pixel by pixel instead: see the columns.
#include "norm.h"
#include "rows.h"

constant bool kRms [[function_constant(kFcNormRms)]];
constant int kWeight [[function_constant(kFcNormWeight)]];  // ParameterKind
constant int kBias [[function_constant(kFcNormBias)]];
constant bool kHasWeight = kWeight != int(ParameterKind::kNone);
constant bool kHasBias = kBias != int(ParameterKind::kNone);

static_assert(sizeof(Spread) == kSpreadBytes && sizeof(float2) == kFactorBytes, "as in the scratch");

// Four elements at i of n; what is beyond does not matter.
template <typename T>
inline float4 parameters(const device char* from, ParameterKind kind, uint i, uint n) {
  if (i + 4 <= n)
    return kind == ParameterKind::kFloat ? load4((const device float*)from + i)
                                         : load4((const device T*)from + i);
  const uint last = n - 1;
  return float4(parameter<T>(from, kind, i), parameter<T>(from, kind, min(i + 1, last)),
                parameter<T>(from, kind, min(i + 2, last)), 0.0f);
}

// Rows whose elements lie one after the other in x, y, weight and bias.
template <typename T>
[[kernel]] void norm_dense(constant NormArgs& args [[buffer(kBufferArgs)]],
                           const device T* x [[buffer(kBufferX)]], device T* y [[buffer(kBufferY)]],
                           const device char* weight
                           [[buffer(kBufferNormWeight), function_constant(kHasWeight)]],
                           const device char* bias [[buffer(kBufferNormBias), function_constant(kHasBias)]],
                           uint group [[threadgroup_position_in_grid]],
                           uint simdgroup [[simdgroup_index_in_threadgroup]],
                           uint simdgroups [[simdgroups_per_threadgroup]],
                           uint lane [[thread_index_in_simdgroup]]) {
  threadgroup Exact room[kSimd];
  const Seat seat = seat_of(group, simdgroup, simdgroups, lane);
  if (seat.row >= uint(args.count)) return;  // whole simdgroups leave, or the threadgroup
  const Offsets<4> at = walk(args.rows, seat.row);
  const uint n = uint(args.n);
  float4 row[kMostRowVectors];
  load_row(x + at.of[1], n, seat, 0.0f, row);
  if (!kRms) {
    // Around the first element, so that nothing is left where all are equal.
    const float first = float(x[at.of[1]]);
    Exact sum = exact(0.0f);
    for (int v = 0; v < kMostRowVectors; ++v) {
      const uint i = element_of(seat, v);  // what is beyond the row stays zero
      row[v] = select(row[v] - first, float4(0.0f), uint4(i, i + 1, i + 2, i + 3) >= n);
      for (int k = 0; k < 4 && v < kVectors; ++k) sum = plus(sum, exact(row[v][k]));
    }
    const Exact mean = mean_of(across_row<Sum<float>>(sum, room, seat), float(n));
    for (int v = 0; v < kMostRowVectors; ++v) {
      const uint i = element_of(seat, v);
      row[v] = select((row[v] - mean.main) - mean.rest, float4(0.0f), uint4(i, i + 1, i + 2, i + 3) >= n);
    }
  }
  Exact squares = exact(0.0f);
  for (int v = 0; v < kMostRowVectors; ++v) {
    if (v < kVectors) squares = plus(squares, exact(dot(row[v], row[v])));
  }
  const float scale =
      scale_of(value_of(across_row<Sum<float>>(squares, room, seat)), float(n), args.eps, kRms);
  for (int v = 0; v < kMostRowVectors; ++v) {
    const uint i = element_of(seat, v);
    if (v >= kVectors || i >= n) continue;
    float4 result = row[v] * scale;
    if (kHasWeight) result *= parameters<T>(weight, ParameterKind(kWeight), i, n);
    if (kHasBias) result += parameters<T>(bias, ParameterKind(kBias), i, n);
    store_some(y + at.of[0], i, n, result);
  }
}

// Any rows.
template <typename T>
[[kernel]] void norm_any(constant NormArgs& args [[buffer(kBufferArgs)]],
                         const device T* x [[buffer(kBufferX)]], device T* y [[buffer(kBufferY)]],
                         const device char* weight
                         [[buffer(kBufferNormWeight), function_constant(kHasWeight)]],
                         const device char* bias [[buffer(kBufferNormBias), function_constant(kHasBias)]],
                         uint group [[threadgroup_position_in_grid]],
                         uint simdgroup [[simdgroup_index_in_threadgroup]],
                         uint simdgroups [[simdgroups_per_threadgroup]],
                         uint lane [[thread_index_in_simdgroup]]) {
  threadgroup Spread room[kSimd];
  const Seat seat = seat_of(group, simdgroup, simdgroups, lane);
  if (seat.row >= uint(args.count)) return;  // who shares a row leaves together
  const Offsets<4> at = walk(args.rows, seat.row);
  const uint n = uint(args.n);
  const device T* from = x + at.of[1];
  const float centre = kRms ? 0.0f : float(*from);
  Spread spread = Spreads::none();
  Stepper<4> element(args.elements, seat.index, seat.threads);
  for (uint i = seat.index; i < n; i += seat.threads) {
    spread = Spreads::add(spread, float(from[element.offset(args.elements, 1)]) - centre, i);
    element.advance(args.elements);
  }
  spread = across_row<Spreads>(spread, room, seat);
  const Normal normal = normal_of(spread, centre, float(n), args.eps, kRms);
  Stepper<4> again(args.elements, seat.index, seat.threads);
  for (uint i = seat.index; i < n; i += seat.threads) {
    float result = normal.of(float(from[again.offset(args.elements, 1)]));
    if (kHasWeight)
      result *= parameter<T>(weight, ParameterKind(kWeight), at.of[2] + again.offset(args.elements, 2));
    if (kHasBias)
      result += parameter<T>(bias, ParameterKind(kBias), at.of[3] + again.offset(args.elements, 3));
    y[at.of[0] + again.offset(args.elements, 0)] = T(result);
    again.advance(args.elements);
  }
}

// The columns of group norms: each thread adds up one channel over some pixels, simdgroups join what belongs
// to a group, and a last launch normalises.
template <typename T>
[[kernel]] void norm_columns_measure(constant NormColumnsArgs& args [[buffer(kBufferArgs)]],
                                     const device T* x [[buffer(kBufferX)]],
                                     device Spread* spreads [[buffer(kBufferNormSpreads)]],
                                     uint3 at [[thread_position_in_grid]]) {
  const uint channel = at.x, part = at.y, image = at.z;
  if (channel >= uint(args.channels) || part >= uint(args.parts) || image >= uint(args.images)) return;
  const device T* from = x + image * args.x_batch;
  const float centre = float(from[channel / uint(args.each) * uint(args.each)]);
  const uint end = min((part + 1) * uint(args.part), uint(args.pixels));
  Spread spread = Spreads::none();
  for (uint p = part * uint(args.part); p < end; ++p) {
    spread = Spreads::add(spread, float(from[p * args.x_pixel + channel]) - centre, p);
  }
  spreads[(int64_t(image) * args.parts + part) * args.channels + channel] = spread;
}

template <typename T>
[[kernel]] void norm_columns_join(constant NormColumnsArgs& args [[buffer(kBufferArgs)]],
                                  const device T* x [[buffer(kBufferX)]],
                                  const device Spread* spreads [[buffer(kBufferNormSpreads)]],
                                  device float2* factors [[buffer(kBufferNormFactors)]],
                                  uint2 group [[threadgroup_position_in_grid]],
                                  uint lane [[thread_index_in_simdgroup]]) {
  const uint each = uint(args.each), image = group.y;
  if (group.x >= uint(args.groups) || image >= uint(args.images)) return;
  const device Spread* from = spreads + int64_t(image) * args.parts * args.channels + group.x * each;
  Spread spread = Spreads::none();
  for (uint i = lane; i < each * uint(args.parts); i += kSimd) {
    const uint part = i / each;
    spread = Spreads::merge(spread, from[int64_t(part) * args.channels + (i - part * each)]);
  }
  spread = across_lanes<Spreads>(spread);
  const float n = float(args.pixels) * float(each), centre = float(x[image * args.x_batch + group.x * each]);
  if (lane == 0) {
    const float mean = value_of(plus(mean_of(spread.sum, n), exact(centre)));
    factors[int64_t(image) * args.groups + group.x] =
        float2(mean, scale_of(squares_around_mean(spread, n), n, args.eps, false));
  }
}

template <typename T>
[[kernel]] void norm_columns_apply(constant NormColumnsArgs& args [[buffer(kBufferArgs)]],
                                   const device T* x [[buffer(kBufferX)]], device T* y [[buffer(kBufferY)]],
                                   const device char* weight
                                   [[buffer(kBufferNormWeight), function_constant(kHasWeight)]],
                                   const device char* bias
                                   [[buffer(kBufferNormBias), function_constant(kHasBias)]],
                                   const device float2* factors [[buffer(kBufferNormFactors)]],
                                   uint3 at [[thread_position_in_grid]]) {
  const uint channel = at.x, image = at.z;
  if (channel >= uint(args.channels) || at.y >= uint(args.parts) || image >= uint(args.images)) return;
  const float2 factor = factors[int64_t(image) * args.groups + channel / uint(args.each)];
  float scale = factor.y, shift = 0.0f;
  if (kHasWeight) scale *= parameter<T>(weight, ParameterKind(kWeight), channel * args.weight_step);
  if (kHasBias) shift = parameter<T>(bias, ParameterKind(kBias), channel * args.bias_step);
  const device T* from = x + image * args.x_batch + channel;
  device T* to = y + image * args.y_batch + channel;
  const uint end = min((at.y + 1) * uint(args.part), uint(args.pixels));
  for (uint p = at.y * uint(args.part); p < end; ++p) {
    to[p * args.y_pixel] = T((float(from[p * args.x_pixel]) - factor.x) * scale + shift);
  }
}

NPU_INSTANTIATE_FLOATS(norm_dense)
NPU_INSTANTIATE_FLOATS(norm_any)
NPU_INSTANTIATE_FLOATS(norm_columns_measure)
NPU_INSTANTIATE_FLOATS(norm_columns_join)
NPU_INSTANTIATE_FLOATS(norm_columns_apply)

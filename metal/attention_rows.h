// What lanes have of keys and values, in attention of few rows.
#pragma once

#include "attention.h"
#include "wide.h"

constant bool kWideKeys [[function_constant(kFcFewRowsWideKeys)]];  // 16 bytes of a row may be loaded at once
constant bool kWideValues [[function_constant(kFcFewRowsWideValues)]];
constant int kKeyLanes [[function_constant(kFcFewRowsKeyLanes)]];  // that share a row: 4, 8, 16 or 32
constant int kValueLanes [[function_constant(kFcFewRowsValueLanes)]];
constant bool kParts [[function_constant(kFcFewRowsParts)]];  // sums go to the scratch
constant int kSimdgroups [[function_constant(kFcFewRowsSimdgroups)]];

constant constexpr int kTogether = 4;  // columns that are added up together
constant constexpr int kWidest = 256;
static_assert(kFewRowsColumns == int(kSimd), "each lane has a column");

// What a lane has of a row, as it was loaded: as floats it would take twice the registers.
template <typename T, int kVectors>
struct Loaded {
  static constant constexpr int kElements = 4 * Wide<T>::kFours;
  uint4 of[kVectors];

  static int first_of(int lane, int vector) { return (lane + vector * int(kSimd)) * kElements; }

  // `row` may be read whatever `kept` is, so that loads need not wait for anything.
  void load(const device T* row, int64_t step, int width, int lane, bool wide, bool kept, bool int8 = false) {
    NPU_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const int first = first_of(lane, v);
      uint4 raw;
      if (wide) {
        const int at = first < width ? first : 0;
        raw = int8 ? load_int8(row, at) : *(const device uint4*)(row + at);
      } else {
        Wide<T> chunk;
        NPU_UNROLL
        for (int i = 0; i < kElements; ++i) {
          const int64_t at = (first + i) * step;
          chunk.at[i / 4][i % 4] = first + i >= width ? 0.0f
                                   : int8             ? float(((const device char*)row)[at])
                                                      : float(row[at]);
        }
        raw = raw_of(chunk, T(0.0f));
      }
      of[v] = kept && first < width ? raw : uint4(0);
    }
  }

  Wide<T> floats(int v, bool int8) const {
    return int8 ? wide_of_int8<T>(of[v].xy) : wide_of(of[v], T(0.0f));
  }

 private:
  static uint4 load_int8(const device T* row, int at) {
    const device char* from = (const device char*)row + at;
    if (Wide<T>::kFours == 2) return uint4(*(const device uint2*)from, 0, 0);
    return uint4(*(const device uint*)from, 0, 0, 0);
  }
};

// The same as floats.
template <typename T, int kVectors>
struct Part {
  Wide<T> of[kVectors];
  // Sets of kTogether columns that are on their way at a time, where registers allow it.
  static constant constexpr int kSets = kVectors == 1 && Wide<T>::kFours == 2 ? 4 : 1;

  float times(thread const Loaded<T, kVectors>& other, bool int8) const {
    float sum = 0.0f;
    NPU_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const Wide<T> factors = other.floats(v, int8);
      NPU_UNROLL
      for (int f = 0; f < Wide<T>::kFours; ++f) sum += dot(of[v].at[f], factors.at[f]);
    }
    return sum;
  }
};

// Sums of four columns over the lanes that share rows; a lane gets that of column lane % 4.
inline float across_key_lanes(float4 sums, int lane) {
  const bool odd = (lane & 1) != 0, high = (lane & 2) != 0;
  float2 kept = odd ? sums.yw : sums.xz;
  kept += simd_shuffle_xor(odd ? sums.xz : sums.yw, ushort(1));
  float sum = high ? kept.y : kept.x;
  sum += simd_shuffle_xor(high ? kept.x : kept.y, ushort(2));
  for (int mask = 4; mask < kKeyLanes; mask *= 2) sum += simd_shuffle_xor(sum, ushort(mask));
  return sum;
}

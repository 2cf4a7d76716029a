// What norms of rows have in common, wherever they are computed.
#pragma once

#include "fold.h"

// An element of a weight or bias.
template <typename T>
inline float parameter(const device char* from, ParameterKind kind, int64_t at) {
  return kind == ParameterKind::kFloat ? ((const device float*)from)[at] : float(((const device T*)from)[at]);
}

// As in PyTorch, squares that a float cannot hold give NaN, but for RMS norms.
inline float scale_of(float squares, float n, float eps, bool rms) {
  return isfinite(squares) || rms ? 1.0f / precise::sqrt(squares / n + eps) : NAN;
}

// What makes the elements of a row normal.
struct Normal {
  Exact mean;  // zero for RMS norms
  float scale;

  float of(float x) const { return ((x - mean.main) - mean.rest) * scale; }
};

// From the spread of its n elements around `centre`, which is zero for RMS norms.
inline Normal normal_of(Spread spread, float centre, float n, float eps, bool rms) {
  const Exact mean = rms ? exact(0.0f) : plus(mean_of(spread.sum, n), exact(centre));
  const float squares = rms ? value_of(spread.squares) : squares_around_mean(spread, n);
  return {mean, scale_of(squares, n, eps, rms)};
}

// A step with weights, a constant and a cache.
#pragma once

#include <cstring>
#include <utility>
#include <vector>

#include "npu/npu.h"
#include "support/sample_programs.h"

namespace npu::test {

// y = relu(x @ w^T + 1), with w doubled in prepare; the cache takes y's first row at `at`.
inline const char* const kStep = R"({
  "model_name": "step",
  "values": [
    {"name": "x", "dtype": "float32", "shape": [2, 64]}, {"name": "w", "dtype": "float32", "shape": [48, 64]},
    {"name": "w2", "dtype": "float32", "shape": [48, 64]}, {"name": "one", "dtype": "float32", "shape": [1]},
    {"name": "h", "dtype": "float32", "shape": [2, 48]}, {"name": "y", "dtype": "float32", "shape": [2, 48]},
    {"name": "cache", "dtype": "float32", "shape": [4, 48]}, {"name": "at", "dtype": "int64", "shape": [1]},
    {"name": "cache_out", "dtype": "float32", "shape": [4, 48]}],
  "inputs": [{"name": "x", "value": 0}, {"name": "cache", "value": 6, "state": true}, {"name": "at", "value": 7}],
  "outputs": [{"name": "y", "value": 5, "names": ["logits"]}, {"name": "cache_out", "value": 8, "alias": 1}],
  "weights": [{"name": "w", "value": 1, "ties": ["tied"]}],
  "constants": [{"name": "one", "value": 3, "offset": 0}],
  "prepare": [{"op": "map", "name": "double", "in": [1], "out": [2],
               "attrs": {"expr": [["in", 0], ["const", 2.0, "f"], ["mul", 0, 1]]}}],
  "main": [
    {"op": "matmul", "name": "product", "in": [0, [2, [64, 48], [1, 64], 0], null], "out": [4], "attrs": {}},
    {"op": "map", "name": "finish", "in": [4, [3, [2, 48], [0, 0], 0]], "out": [5],
     "attrs": {"expr": [["in", 0], ["in", 1], ["add", 0, 1], ["relu", 2]]}},
    {"op": "scatter", "name": "write", "in": [6, [5, [1, 48], [48, 1], 0], [7, [1, 48], [1, 0], 0]], "out": [8],
     "attrs": {"kind": "set", "axes": [0], "dims": [-1, 1]}}]
})";

inline Program step_program() {
  Bytes file = program_file(kStep, 64);
  const float one = 1;
  std::memcpy(file.data() + file.size() - 64, &one, sizeof one);
  put(file, 40, file_checksum(file, 64));
  return Program::parse(file);
}

inline Buffer filled(std::vector<std::int64_t> shape, float start, float step) {
  Buffer buffer = Buffer::allocate(DType::kFloat32, std::move(shape));
  for (std::int64_t i = 0; i < buffer.elements(); ++i) {
    static_cast<float*>(buffer.data())[i] = start + step * static_cast<float>(i % 17);
  }
  return buffer;
}

inline Buffer position(std::int64_t at) {
  Buffer buffer = Buffer::allocate(DType::kInt64, {1});
  *static_cast<std::int64_t*>(buffer.data()) = at;
  return buffer;
}

}  // namespace npu::test

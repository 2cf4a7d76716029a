// Small program files made from text, valid or not: for the tests of the reader and for its fuzzer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "core/program/program.h"

namespace npu::test {

using Bytes = std::vector<std::byte>;

inline std::uint64_t file_checksum(const Bytes& bytes, std::size_t from) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (std::size_t at = from; at < bytes.size(); at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, std::min<std::size_t>(8, bytes.size() - at));
    hash = (hash ^ word) * 0x100000001b3u;
    hash ^= hash >> 32;
  }
  return hash;
}

inline void put(Bytes& bytes, std::size_t at, std::uint64_t number) {
  std::memcpy(bytes.data() + at, &number, 8);
}

// A whole file: header, JSON, constants.
inline Bytes program_file(const std::string& json, std::size_t constant_bytes = 0,
                          std::uint32_t version = kFormatVersion) {
  const std::size_t start = (64 + json.size() + 63) / 64 * 64;
  Bytes bytes(start + constant_bytes);
  std::memcpy(bytes.data(), "\x89NPUBIN\n", 8);
  put(bytes, 8, version);
  put(bytes, 16, json.size());
  put(bytes, 24, start);
  put(bytes, 32, constant_bytes);
  std::memcpy(bytes.data() + 64, json.data(), json.size());
  put(bytes, 40, file_checksum(bytes, 64));
  return bytes;
}

struct OneOp {
  std::string op;
  std::string attrs;                // without braces
  std::vector<std::string> inputs;  // "float32 [1, 4]", or "null"
  std::vector<std::string> outputs;
};

// A program of one op whose operands are inputs and outputs of the program, whole.
inline std::string one_op_json(const OneOp& one) {
  std::string values, inputs, outputs, in, out;
  int count = 0;
  const auto add = [&](const std::string& type, std::string& ids, std::string& list) {
    ids += ids.empty() ? "" : ",";
    if (type == "null") {
      ids += "null";
      return;
    }
    const std::string id = std::to_string(count++), name = "\"name\":\"v" + id + "\"";
    const std::size_t space = type.find(' ');
    ids += id;
    values += (values.empty() ? "{" : ",{") + name + ",\"dtype\":\"" + type.substr(0, space) +
              "\",\"shape\":" + type.substr(space + 1) + "}";
    list += (list.empty() ? "{" : ",{") + name + ",\"value\":" + id + "}";
  };
  for (const auto& type : one.inputs) add(type, in, inputs);
  for (const auto& type : one.outputs) add(type, out, outputs);
  return "{\"model_name\":\"one\",\"values\":[" + values + "],\"inputs\":[" + inputs + "],\"outputs\":[" +
         outputs + "],\"main\":[{\"op\":\"" + one.op + "\",\"name\":\"it\",\"in\":[" + in + "],\"out\":[" +
         out + "],\"attrs\":{" + one.attrs + "}}]}";
}

// A bit of everything: a symbol, weights, constants, prepared values, views, partial writes, an update in
// place.
inline const char* kEverything = R"({
  "model_name": "everything", "producer": "npu_compiler 0.1.0",
  "weight_name_mapping": {"p_fc_weight": "fc.weight"},
  "symbols": [{"name": "len", "min": 1, "max": 16}],
  "values": [
    {"name": "x", "dtype": "float32", "shape": [2, 4]},
    {"name": "w", "dtype": "float32", "shape": [4, 4]},
    {"name": "scale", "dtype": "float32", "shape": [4]},
    {"name": "folded", "dtype": "float32", "shape": [4, 4]},
    {"name": "product", "dtype": "float32", "shape": [2, 4]},
    {"name": "both", "dtype": "float32", "shape": [2, 6]},
    {"name": "cache", "dtype": "float32", "shape": [16, 4]},
    {"name": "updated", "dtype": "float32", "shape": [16, 4]},
    {"name": "rows", "dtype": "int64", "shape": [2, 4]},
    {"name": "tokens", "dtype": "int32", "shape": [{"sym": 0, "scale": 2, "offset": 1}]},
    {"name": "flags", "dtype": "bool", "shape": [{"sym": 0, "scale": 2, "offset": 1}]}],
  "inputs": [
    {"name": "x", "value": 0, "required": true, "state": false},
    {"name": "cache", "value": 6, "required": false, "state": true},
    {"name": "rows", "value": 8},
    {"name": "tokens", "value": 9}],
  "outputs": [
    {"name": "both", "value": 5, "names": ["logits"], "alias": null},
    {"name": "updated", "value": 7, "names": [], "alias": 1},
    {"name": "flags", "value": 10}],
  "weights": [{"name": "fc.weight", "value": 1, "ties": ["head.weight"]}],
  "constants": [{"name": "scale", "value": 2, "offset": 64}],
  "prepare": [
    {"op": "map", "name": "fold", "in": [1, [2, [4, 4], [1, 0], 0]], "out": [3],
     "attrs": {"expr": [["in", 0], ["in", 1], ["mul", 0, 1]]}}],
  "main": [
    {"op": "matmul", "name": "linear", "in": [0, [3, [4, 4], [1, 4], 0], null, null, null, null, 0],
     "out": [4],
     "attrs": {"epilogue": [["in", 0], ["in", 1], ["add", 0, 1], ["relu", 2]]},
     "nodes": ["linear", "relu"], "module": "fc"},
    {"op": "copy", "name": "left", "in": [[4, [2, 3], [4, 1], 1]], "out": [[5, [2, 3], [6, 1], 0]], "attrs": {}},
    {"op": "copy", "name": "right", "in": [[4, [2, 3], [4, -1], 3]], "out": [[5, [2, 3], [6, 1], 3]]},
    {"op": "scatter", "name": "update", "in": [6, 4, 8], "out": [7],
     "attrs": {"kind": "set", "axes": [0], "dims": [-1, 1], "wrap": true}},
    {"op": "map", "name": "flag", "in": [9], "out": [10],
     "attrs": {"expr": [["in", 0], ["const", 3, "i"], ["gt", 0, 1], ["const", true, "b"], ["land", 2, 3]]}}]
})";

inline constexpr std::size_t kEverythingConstants = 80;

// Each op in a form that is valid.
inline const std::vector<OneOp>& valid_ops() {
  static const std::vector<OneOp> ops = {
      {"map",
       R"("expr":[["in",0],["const","-inf","f"],["max",0,1],["cast",2,"float16"]])",
       {"float32 [2,3]"},
       {"float16 [2,3]"}},
      {"map", R"("expr":[["const",7,"i"]])", {}, {"int32 [2,3]"}},
      {"copy", "", {"int8 [2,0,3]"}, {"int8 [2,0,3]"}},
      {"conv",
       R"("stride":[2,2],"padding_low":[1,1],"padding_high":[1,1],"dilation":[1,1],"input_dilation":[1,1],"groups":2)",
       {"float32 [1,4,8,8]", "float32 [6,2,3,3]", "float32 [6]"},
       {"float32 [1,6,4,4]"}},
      {"conv",
       R"("stride":[1],"padding_low":[-1],"padding_high":[1],"dilation":[1],"input_dilation":[2],"epilogue":[["in",0],["in",1],["add",0,1]])",
       {"float16 [1,4,8]", "float16 [2,4,3]", "null", "float32 [1,2,13]"},
       {"float32 [1,2,13]"}},
      {"matmul", "", {"bfloat16 [2,3,4]", "bfloat16 [2,4,5]"}, {"bfloat16 [2,3,5]"}},
      {"matmul", "", {"bfloat16 [1,4]", "bfloat16 [4,5]", "float32 [1,5]"}, {"bfloat16 [1,5]"}},
      {"matmul",
       R"("halves":true,"epilogue":[["in",0],["in",1],["mul",0,1]])",
       {"bfloat16 [1,4]", "bfloat16 [4,10]", "float32 [1,10]"},
       {"bfloat16 [1,5]"}},
      {"matmul",
       R"("bits":4,"group":8,"offset":"bias")",
       {"bfloat16 [1,1,20]", "uint8 [5,10]", "float32 [1,1,5]", "float16 [5,3]", "float32 [5,3]"},
       {"bfloat16 [1,1,5]"}},
      {"matmul",
       R"("bits":4,"group":8,"offset":"bias","unit":16)",
       {"bfloat16 [1,1,20]", "uint8 [5,10]", "null", "int8 [5,3]", "int8 [5,3]", "float16 [5,4]"},
       {"bfloat16 [1,1,5]"}},
      {"dequantize",
       R"("bits":6,"group":4,"unit":8)",
       {"uint8 [2,4,6]", "int8 [2,4,2]", "null", "bfloat16 [2,4,1]"},
       {"float16 [2,4,7]"}},
      {"dequantize",
       R"("bits":3,"signed_integers":true)",
       {"uint8 [2,4,3]", "bfloat16 [2,4,1]"},
       {"float16 [2,4,7]"}},
      {"attention",
       R"("scale":0.5)",
       {"float16 [2,6,3,4]", "float16 [2,2,7,4]", "float16 [2,2,7,5]", "bool [2,6,3,7]"},
       {"float16 [2,6,3,5]"}},
      {"rope",
       R"("interleaved":true)",
       {"bfloat16 [2,6,3,8]", "float32 [2,1,3,4]", "float32 [2,1,3,4]", "bfloat16 [2,2,3,8]",
        "bfloat16 [2,2,3,5]", "bfloat16 [2,2,9,8]", "bfloat16 [2,2,9,5]", "int64 [3]"},
       {"bfloat16 [2,6,3,8]", "bfloat16 [2,2,9,8]", "bfloat16 [2,2,9,5]"}},
      {"pool",
       R"("kind":"max","kernel":[3,3],"stride":[2,2],"padding":[1,1],"dilation":[1,1])",
       {"float32 [1,4,8,8]"},
       {"float32 [1,4,4,4]", "int64 [1,4,4,4]"}},
      {"pool",
       R"("kind":"avg","kernel":[2],"stride":[2],"padding":[0],"dilation":[1],"count_padding":false,"divisor":3)",
       {"float32 [1,4,9]"},
       {"float32 [1,4,5]"}},
      {"adaptive_pool", R"("kind":"avg")", {"float32 [1,4,7,7]"}, {"float32 [1,4,3,2]"}},
      {"norm",
       R"("kind":"layer","axes":2,"eps":1e-5)",
       {"float16 [2,3,4]", "float32 [3,4]", "float16 [3,4]"},
       {"float16 [2,3,4]"}},
      {"norm",
       R"("kind":"group","groups":3,"eps":1e-5)",
       {"float32 [2,6,4]", "float32 [6]"},
       {"float32 [2,6,4]"}},
      {"softmax", R"("axis":1,"log":true)", {"float32 [2,3]"}, {"float32 [2,3]"}},
      {"reduce", R"("kind":"argmax","axes":[0])", {"int32 [2,3]"}, {"int64 [1,3]"}},
      {"reduce", R"("kind":"var","axes":[0,1],"correction":1)", {"float32 [2,3]"}, {"float32 [1,1]"}},
      {"reduce", R"("kind":"any","axes":[1])", {"float32 [2,3]"}, {"bool [2,1]"}},
      {"scan", R"("kind":"sum","axis":1)", {"bool [2,3]"}, {"int64 [2,3]"}},
      {"scan_extreme", R"("kind":"max","axis":1)", {"int8 [2,3]"}, {"null", "int64 [2,3]"}},
      {"sort", R"("axis":1,"descending":true)", {"float32 [2,3]"}, {"null", "int64 [2,3]"}},
      {"topk", R"("axis":1)", {"float32 [2,9]"}, {"float32 [2,3]", "int64 [2,3]"}},
      {"gather", R"("axes":[0],"dims":[-1,1])", {"float32 [9,4]", "int32 [5,4]"}, {"float32 [5,4]"}},
      {"scatter",
       R"("kind":"add","axes":[0,1],"dims":[-1,-1])",
       {"float32 [9,4]", "float32 [5]", "int64 [5]", "int64 [5]"},
       {"float32 [9,4]"}},
      {"iota", R"("start":-3,"step":2)", {}, {"int64 [7]"}},
      {"resize", R"("kind":"linear","scales":[2,0])", {"float32 [1,3,4,4]"}, {"float32 [1,3,8,9]"}},
      {"grid_sample",
       R"("kind":"cubic","padding":"border")",
       {"float16 [1,3,4,4]", "float32 [1,5,6,2]"},
       {"float16 [1,3,5,6]"}},
      {"pad", R"("low":[0,2],"high":[0,-1],"kind":"reflect")", {"float32 [2,4]"}, {"float32 [2,5]"}},
      {"pad", R"("low":[1,-4],"high":[0,1],"value":"-inf")", {"float32 [2,4]"}, {"float32 [3,1]"}},
  };
  return ops;
}

// A safetensors file from its header and the size of its data.
inline Bytes safetensors_file(const std::string& header, std::size_t data_bytes) {
  Bytes bytes(8 + header.size() + data_bytes);
  put(bytes, 0, header.size());
  std::memcpy(bytes.data() + 8, header.data(), header.size());
  return bytes;
}

}  // namespace npu::test

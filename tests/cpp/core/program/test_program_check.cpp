#include "core/program/program.h"
#include "core/program/regions.h"
#include "npu/error.h"
#include "support/check.h"
#include "support/sample_programs.h"

using namespace npu;
using namespace npu::test;

namespace {

ProgramModel read(const std::string& json) {
  return read_program(program_file(json, kEverythingConstants), "test.npubin", nullptr);
}

std::string edited(std::string json, const std::string& from, const std::string& to) {
  const std::size_t at = json.find(from);
  if (at == std::string::npos) report_failure(__FILE__, __LINE__, "nothing to replace: " + from);
  return json.replace(at, from.size(), to);
}

// A value of `shape` with writers `views`, each of them a copy of an input of its own.
std::string parts(const std::string& shape, const std::vector<std::string>& views) {
  std::string values = R"({"name":"y","dtype":"float32","shape":)" + shape + "}", inputs, main;
  for (std::size_t i = 0; i < views.size(); ++i) {
    const std::string id = std::to_string(i + 1);
    const std::string part = views[i].substr(0, views[i].find(']') + 1);
    values += R"(,{"name":"x)" + id + R"(","dtype":"float32","shape":)" + part + "}";
    inputs += std::string(i > 0 ? "," : "") + R"({"name":"x)" + id + R"(","value":)" + id + "}";
    main += std::string(i > 0 ? "," : "") + R"({"op":"copy","name":"c)" + id + R"(","in":[)" + id +
            R"(],"out":[[0,)" + views[i] + "]]}";
  }
  return R"({"model_name":"parts","values":[)" + values + R"(],"inputs":[)" + inputs +
         R"(],"outputs":[{"name":"y","value":0}],"main":[)" + main + "]}";
}

}  // namespace

TEST(program_check, every_op_has_a_valid_form) {
  for (const OneOp& one : valid_ops()) {
    const ProgramModel m = read(one_op_json(one));
    CHECK_EQ(m.main.size(), 1u);
    CHECK(!program_text(m).empty());
  }
}

TEST(program_check, ops_refuse_what_does_not_fit) {
  const std::string conv =
      R"("stride":[2,2],"padding_low":[1,1],"padding_high":[1,1],"dilation":[1,1],"input_dilation":[1,1])";
  const std::string pool = R"("kind":"max","kernel":[3],"stride":[2],"padding":[1],"dilation":[1])";
  struct Broken {
    OneOp op;
    const char* message;
  };
  const std::vector<Broken> table = {
      {{"map", R"("expr":[])", {}, {"float32 [2]"}}, "at least one step"},
      {{"map", R"("expr":[["in",0]])", {"float32 [2]"}, {"float32 [3]"}}, "the shape [3] for 'operands'"},
      {{"map", R"("expr":[["in",0]])", {"float32 [2]"}, {"int32 [2]"}}, "of the class of 'out'"},
      {{"copy", "", {"float32 [2]"}, {"float16 [2]"}}, "the same shape and dtype"},
      {{"conv", conv, {"float32 [1,4,8,8]", "float32 [6,4,3,3]"}, {"float32 [1,6,5,4]"}},
       "windows that end inside"},
      {{"conv", conv, {"float32 [1,4,8,8]", "float32 [6,3,3,3]"}, {"float32 [1,6,4,4]"}},
       "a weight [channels"},
      {{"conv", conv, {"float32 [1,4,8,8]", "float32 [5,4,3,3]"}, {"float32 [1,6,4,4]"}},
       "a weight [channels"},
      {{"conv", conv, {"float32 [1,4,8,8]", "float32 [6,4,0,3]"}, {"float32 [1,6,4,4]"}},
       "a kernel that is not empty"},
      {{"conv", conv, {"float32 [1,4,8,8]", "float32 [6,4,3]"}, {"float32 [1,6,4,4]"}},
       "a weight of the same rank"},
      {{"conv", conv, {"float32 [2,4,8,8]", "float32 [6,4,3,3]"}, {"float32 [1,6,4,4]"}}, "same batch size"},
      {{"conv", conv, {"float32 [1,4,8,8]", "float32 [6,4,3,3]", "float32 [5]"}, {"float32 [1,6,4,4]"}},
       "the shape [6] for 'bias'"},
      {{"conv", conv, {"float32 [1,4,8,8]", "float32 [6,4,3,3]", "int32 [6]"}, {"float32 [1,6,4,4]"}},
       "floating-point dtype for 'bias'"},
      {{"conv", conv, {"int8 [1,4,8,8]", "int8 [6,4,3,3]"}, {"int8 [1,6,4,4]"}},
       "floating-point dtype for 'x'"},
      {{"conv", conv, {"float32 [1,4,8,8]", "float16 [6,4,3,3]"}, {"float32 [1,6,4,4]"}},
       "the dtype float32 for 'weight'"},
      {{"conv", conv, {"float32 [1,4,8,8]", "float32 [6,4,3,3]"}, {"float16 [1,6,4,4]"}},
       "the dtype float32 for 'out'"},
      {{"conv", conv + R"(,"groups":3)", {"float32 [1,4,8,8]", "float32 [6,1,3,3]"}, {"float32 [1,6,4,4]"}},
       "groups that divide"},
      {{"conv", conv + R"(,"groups":0)", {"float32 [1,4,8,8]", "float32 [6,4,3,3]"}, {"float32 [1,6,4,4]"}},
       "groups that divide"},
      {{"conv",
        edited(conv, "[2,2]", "[0,2]"),
        {"float32 [1,4,8,8]", "float32 [6,4,3,3]"},
        {"float32 [1,6,4,4]"}},
       "from 1 to 2^20"},
      {{"conv",
        edited(conv, "[2,2]", "[2]"),
        {"float32 [1,4,8,8]", "float32 [6,4,3,3]"},
        {"float32 [1,6,4,4]"}},
       "each spatial dimension"},
      {{"conv",
        edited(conv, "[1,1]", "[-2,1]"),
        {"float32 [1,4,8,8]", "float32 [6,4,3,3]"},
        {"float32 [1,6,4,4]"}},
       "windows that end inside"},
      {{"conv",
        conv,
        {"float32 [1,4,8,8]", "float32 [6,4,3,3]", "null", "float32 [1,6,4,4]"},
        {"float32 [1,6,4,4]"}},
       "no 'extra' operands"},
      {{"conv",
        conv + R"(,"epilogue":[["in",0],["in",1],["add",0,1]])",
        {"float32 [1,4,8,8]", "float32 [6,4,3,3]", "null", "float32 [1,6,1,4]"},
        {"float32 [1,6,4,4]"}},
       "for 'extra'"},
      {{"conv",
        conv + R"(,"epilogue":[["in",0],["isnan",0]])",
        {"float32 [1,4,8,8]", "float32 [6,4,3,3]"},
        {"float32 [1,6,4,4]"}},
       "an epilogue whose result"},
      {{"matmul", "", {"float32 [4]", "float32 [4]"}, {"float32 [1]"}}, "at least 2"},
      {{"matmul", "", {"float32 [3,4]", "float32 [4,5]", "null", "float32 [5,1]"}, {"float32 [3,5]"}},
       "'bits' for scales"},
      {{"matmul", R"("bits":8)", {"float32 [3,4]", "uint8 [5,4]"}, {"float32 [3,5]"}}, "'scales' of a"},
      {{"matmul",
        R"("bits":8)",
        {"float32 [3,4]", "uint8 [4,5]", "null", "float32 [5,1]"},
        {"float32 [3,5]"}},
       "the shape [5, 4] for 'b'"},
      {{"matmul", R"("bits":8)", {"int8 [3,4]", "uint8 [5,4]", "null", "float32 [5,1]"}, {"int8 [3,5]"}},
       "floating-point dtype for 'a'"},
      {{"dequantize", R"("bits":5)", {"uint8 [5,4]", "float32 [5,1]"}, {"float32 [5,4]"}}, "or 8 bits"},
      {{"dequantize", R"("bits":8,"group":-1)", {"uint8 [5,4]", "float32 [5,1]"}, {"float32 [5,4]"}},
       "at least 0 elements"},
      {{"dequantize", R"("bits":4)", {"uint8 [5,4]", "float32 [5,1]"}, {"float32 [5,6]"}},
       "the shape [5, 3] for 'q'"},
      {{"dequantize", R"("bits":8)", {"int8 [5,4]", "float32 [5,1]"}, {"float32 [5,4]"}},
       "the dtype uint8 for 'q'"},
      {{"dequantize", R"("bits":8,"group":3)", {"uint8 [5,4]", "float32 [5,1]"}, {"float32 [5,4]"}},
       "the shape [5, 2] for 'scales'"},
      {{"dequantize", R"("bits":8)", {"uint8 [5,4]", "int32 [5,1]"}, {"float32 [5,4]"}}, "for 'scales'"},
      {{"dequantize", R"("bits":8,"offset":"bias")", {"uint8 [5,4]", "float32 [5,1]"}, {"float32 [5,4]"}},
       "'offsets' unless"},
      {{"dequantize", R"("bits":8)", {"uint8 [5,4]", "float32 [5,1]", "float32 [5,1]"}, {"float32 [5,4]"}},
       "'offsets' unless"},
      {{"dequantize",
        R"("bits":8,"offset":"point")",
        {"uint8 [5,4]", "float32 [5,1]", "float32 [5,2]"},
        {"float32 [5,4]"}},
       "for 'offsets'"},
      {{"dequantize", R"("bits":8)", {"uint8 [5,4]", "float32 [5,1]"}, {"int32 [5,4]"}}, "for 'out'"},
      {{"dequantize",
        R"("bits":8,"group":2,"unit":3)",
        {"uint8 [5,4]", "int8 [5,2]", "null", "float32 [5,2]"},
        {"float32 [5,4]"}},
       "a unit of whole groups"},
      {{"dequantize",
        R"("bits":8,"unit":4)",
        {"uint8 [5,4]", "int8 [5,1]", "null", "float32 [5,1]"},
        {"float32 [5,4]"}},
       "a unit of whole groups"},
      {{"dequantize", R"("bits":8,"group":2,"unit":4)", {"uint8 [5,4]", "int8 [5,2]"}, {"float32 [5,4]"}},
       "'units' unless"},
      {{"dequantize",
        R"("bits":8)",
        {"uint8 [5,4]", "float32 [5,1]", "null", "float32 [5,1]"},
        {"float32 [5,4]"}},
       "'units' unless"},
      {{"dequantize",
        R"("bits":8,"group":2,"unit":4)",
        {"uint8 [5,4]", "float32 [5,2]", "null", "float32 [5,1]"},
        {"float32 [5,4]"}},
       "the dtype int8 for 'scales'"},
      {{"dequantize",
        R"("bits":8,"group":2,"unit":4,"offset":"bias")",
        {"uint8 [5,4]", "int8 [5,2]", "int8 [5,2]", "float32 [5,1]"},
        {"float32 [5,4]"}},
       "the shape [5, 2] for 'units'"},
      {{"dequantize",
        R"("bits":8,"group":2,"unit":4)",
        {"uint8 [5,4]", "int8 [5,2]", "null", "int8 [5,1]"},
        {"float32 [5,4]"}},
       "for 'units'"},
      {{"matmul", "", {"float32 [2,3,4]", "float32 [4,5]"}, {"float32 [2,3,5]"}},
       "operands of the same rank"},
      {{"matmul", "", {"float32 [3,4]", "float32 [3,5]"}, {"float32 [3,5]"}}, "the shape [4, 5] for 'b'"},
      {{"matmul", "", {"float32 [2,3,4]", "float32 [1,4,5]"}, {"float32 [2,3,5]"}}, "for 'b'"},
      {{"matmul", "", {"float32 [3,4]", "float32 [4,5]", "float32 [1,5]"}, {"float32 [3,5]"}}, "for 'bias'"},
      {{"matmul", "", {"bool [3,4]", "bool [4,5]"}, {"bool [3,5]"}}, "floating-point"},
      {{"matmul", "", {"int32 [3,4]", "int32 [4,5]"}, {"int64 [3,5]"}}, "for 'out'"},
      {{"matmul", "", {"int32 [3,4]", "int32 [4,5]", "int32 [3,5]"}, {"int32 [3,5]"}}, "no 'bias'"},
      {{"matmul", "", {"float32 [3,4]", "float32 [4,5]", "float32 [3,5]"}, {"float32 [3,5]"}},
       "one 'bias' for all rows"},
      {{"matmul", R"("halves":true)", {"float32 [3,4]", "float32 [4,10]"}, {"float32 [3,5]"}},
       "an epilogue that combines the two halves"},
      {{"attention",
        R"("scale":1.0)",
        {"float32 [1,5,3,4]", "float32 [1,2,7,4]", "float32 [1,2,7,4]"},
        {"float32 [1,5,3,4]"}},
       "a number of 'q' heads that is a multiple of the 'k' heads"},
      {{"attention",
        R"("scale":1.0)",
        {"float32 [1,4,3,4]", "float32 [1,2,7,4]", "float32 [1,2,6,4]"},
        {"float32 [1,4,3,4]"}},
       "for 'v'"},
      {{"attention",
        R"("scale":1.0,"causal":true)",
        {"float32 [1,1,3,4]", "float32 [1,1,7,4]", "float32 [1,1,7,4]", "bool [1,1,3,7]"},
        {"float32 [1,1,3,4]"}},
       "not both"},
      {{"attention",
        R"("scale":1.0)",
        {"float32 [1,4,3,4]", "int8 [1,2,7,4]", "int8 [1,2,7,4]", "null", "float32 [1,2,7]"},
        {"float32 [1,4,3,4]"}},
       "'key_scales' and 'value_scales', or neither"},
      {{"attention",
        R"("scale":1.0)",
        {"float32 [1,4,3,4]", "int8 [1,2,7,4]", "int8 [1,2,7,4]", "null", "float32 [1,2,7]",
         "float32 [1,2,6]"},
        {"float32 [1,4,3,4]"}},
       "the shape [1, 2, 7] for 'key_scales and value_scales'"},
      {{"attention",
        R"("scale":1.0)",
        {"float32 [1,4,3,4]", "float32 [1,2,7,4]", "int8 [1,2,7,4]", "null", "float32 [1,2,7]",
         "float32 [1,2,7]"},
        {"float32 [1,4,3,4]"}},
       "the dtype int8 for 'k and v'"},
      {{"attention",
        R"("scale":1.0)",
        {"float32 [1,4,3,4]", "int8 [1,2,7,4]", "int8 [1,2,7,4]"},
        {"float32 [1,4,3,4]"}},
       "the dtype float32 for 'k and v'"},
      {{"rope", "", {"float32 [1,2,3,4]", "float32 [1,1,3,6]", "float32 [1,1,3,6]"}, {"float32 [1,2,3,4]"}},
       "an even number of rotated elements"},
      {{"rope", "", {"float32 [1,2,3,4]", "float32 [1,2,3,4]", "float32 [1,2,3,4]"}, {"float32 [1,2,3,4]"}},
       "for 'cos and sin'"},
      {{"pool", pool, {"float32 [1,4,8]"}, {"float32 [1,4,6]"}}, "windows that begin inside"},
      {{"pool", edited(pool, "\"padding\":[1]", "\"padding\":[3]"), {"float32 [1,4,8]"}, {"float32 [1,4,4]"}},
       "padding smaller than the kernel"},
      {{"pool", pool, {"float32 [1,4,0]"}, {"float32 [1,4,1]"}}, "an 'x' that is not empty"},
      {{"pool", pool, {"float32 [1,4,8]"}, {"float32 [1,4,4]", "int32 [1,4,4]"}},
       "the dtype int64 for 'indices'"},
      {{"pool", edited(pool, "max", "avg"), {"float32 [1,4,8]"}, {"float32 [1,4,4]", "int64 [1,4,4]"}},
       "of a maximum only"},
      {{"pool", pool, {"float32 [1,3,8]"}, {"float32 [1,4,4]"}}, "the same channels"},
      {{"pool", pool, {"float32 [4,8]"}, {"float32 [4,4]"}}, "1 to 3 spatial dimensions"},
      {{"adaptive_pool", R"("kind":"max")", {"float32 [1,4,0]"}, {"float32 [1,4,1]"}}, "not empty"},
      {{"norm", R"("kind":"layer","axes":3,"eps":0)", {"float32 [2,4]"}, {"float32 [2,4]"}},
       "normalised axis"},
      {{"norm", R"("kind":"layer","axes":0,"eps":0)", {"float32 [2,4]"}, {"float32 [2,4]"}},
       "normalised axis"},
      {{"norm", R"("kind":"layer","eps":0)", {"float32 [2,4]", "float32 [2]"}, {"float32 [2,4]"}},
       "the shape [4] for 'weight'"},
      {{"norm", R"("kind":"layer","eps":0)", {"float32 [2,4]", "float16 [4]"}, {"float32 [2,4]"}},
       "of the dtype of 'x' or float32"},
      {{"norm", R"("kind":"group","groups":3,"eps":0)", {"float32 [2,4]"}, {"float32 [2,4]"}},
       "groups that divide"},
      {{"softmax", R"("axis":2)", {"float32 [2,4]"}, {"float32 [2,4]"}}, "an axis that 'x' has"},
      {{"softmax", R"("axis":-1)", {"float32 [2,4]"}, {"float32 [2,4]"}}, "an axis that 'x' has"},
      {{"softmax", R"("axis":0)", {"int32 [2,4]"}, {"int32 [2,4]"}}, "floating-point"},
      {{"reduce", R"("kind":"sum","axes":[1])", {"float32 [2,4]"}, {"float32 [2]"}},
       "the shape [2, 1] for 'out'"},
      {{"reduce", R"("kind":"sum","axes":[1])", {"int32 [2,4]"}, {"int32 [2,1]"}},
       "the dtype int64 for 'out'"},
      {{"reduce", R"("kind":"sum","axes":[1,1])", {"float32 [2,4]"}, {"float32 [2,1]"}}, "distinct axes"},
      {{"reduce", R"("kind":"mean","axes":[1])", {"int32 [2,4]"}, {"int32 [2,1]"}}, "floating-point"},
      {{"reduce", R"("kind":"argmin","axes":[0,1])", {"float32 [2,4]"}, {"int64 [1,1]"}}, "one axis"},
      {{"reduce", R"("kind":"max","axes":[1])", {"float32 [2,0]"}, {"float32 [2,1]"}},
       "at least one element"},
      {{"scan", R"("kind":"sum","axis":0)", {"int32 [2,4]"}, {"int32 [2,4]"}}, "the dtype int64"},
      {{"sort", R"("axis":0)", {"float32 []"}, {"float32 []"}}, "an axis that 'x' has"},
      {{"sort", R"("axis":0)", {"float32 [2]"}, {"float32 [2]", "int32 [2]"}},
       "the dtype int64 for 'indices'"},
      {{"sort", R"("axis":0)", {"float32 [2]"}, {"null", "null"}}, "it has no result"},
      {{"topk", R"("axis":0)", {"float32 [2]"}, {"float32 [3]"}}, "no more results"},
      {{"topk", R"("axis":0)", {"float32 [4,2]"}, {"float32 [3,2]", "int64 [2,2]"}}, "for 'indices'"},
      {{"gather", R"("axes":[0],"dims":[-1,1])", {"float32 [9,4]", "int64 [5,5]"}, {"float32 [5,5]"}},
       "positions inside 'x'"},
      {{"gather", R"("axes":[0],"dims":[-1,2])", {"float32 [9,4]", "int64 [5,4]"}, {"float32 [5,4]"}},
       "a dimension of the positions"},
      {{"gather", R"("axes":[0],"dims":[0,1])", {"float32 [9,4]", "int64 [5,4]"}, {"float32 [5,4]"}},
       "-1 in 'dims'"},
      {{"gather", R"("axes":[0],"dims":[-1])", {"float32 [9,4]", "int64 [5,4]"}, {"float32 [5,4]"}},
       "an entry for each dimension"},
      {{"gather",
        R"("axes":[0,0],"dims":[-1,1])",
        {"float32 [9,4]", "int64 [5,4]", "int64 [5,4]"},
        {"float32 [5,4]"}},
       "distinct axes"},
      {{"gather", R"("axes":[0,1],"dims":[-1,-1])", {"float32 [9,4]", "int64 [5,4]"}, {"float32 [5,4]"}},
       "an index operand for each"},
      {{"gather", R"("axes":[0],"dims":[-1,1])", {"float32 [9,4]", "float32 [5,4]"}, {"float32 [5,4]"}},
       "an integer dtype for 'indices'"},
      {{"gather", R"("axes":[0],"dims":[-1,1])", {"float32 [9,4]", "int64 [5]"}, {"float32 [5,4]"}},
       "for 'indices'"},
      {{"scatter",
        R"("kind":"set","axes":[0],"dims":[-1])",
        {"float32 [9]", "float32 [5]", "int64 [4]"},
        {"float32 [9]"}},
       "for 'indices'"},
      {{"scatter",
        R"("kind":"set","axes":[0],"dims":[-1])",
        {"float32 [9]", "float16 [5]", "int64 [5]"},
        {"float32 [9]"}},
       "for 'updates'"},
      {{"scatter",
        R"("kind":"mul","axes":[0],"dims":[-1])",
        {"bool [9]", "bool [5]", "int64 [5]"},
        {"bool [9]"}},
       "kind 'set'"},
      {{"iota", R"("start":0,"step":1)", {}, {"int64 [2,2]"}}, "in one dimension"},
      {{"iota", R"("start":0.5,"step":1)", {}, {"int64 [2]"}}, "integers below 2^53"},
      {{"iota", R"("start":0,"step":1e15)", {}, {"int64 [100]"}}, "integers below 2^53"},
      {{"iota", R"("start":0,"step":"inf")", {}, {"float32 [2]"}}, "finite start and step"},
      {{"resize", R"("kind":"cubic","scales":[0])", {"float32 [1,3,4]"}, {"float32 [1,3,8]"}},
       "2 spatial dimensions for 'cubic'"},
      {{"resize", R"("kind":"nearest","scales":[0])", {"uint8 [1,3,4]"}, {"uint8 [1,3,8]"}},
       "a floating-point dtype for 'x'"},
      {{"resize", R"("kind":"nearest","scales":[3])", {"float32 [1,3,4]"}, {"float32 [1,3,8]"}},
       "times the scales"},
      {{"resize", R"("kind":"nearest","scales":[1e-30])", {"float32 [1,3,4]"}, {"float32 [1,3,8]"}},
       "times the scales"},
      {{"resize", R"("kind":"cubic","scales":[1e-30,1e-30])", {"float32 [1,3,1,1]"}, {"float32 [1,3,1,1]"}},
       "times the scales"},
      {{"resize", R"("kind":"nearest","scales":[0,0])", {"float32 [1,3,4]"}, {"float32 [1,3,8]"}},
       "a scale for each"},
      {{"grid_sample",
        R"("kind":"linear","padding":"zeros")",
        {"float32 [1,3,4,4]", "float32 [1,5,6,3]"},
        {"float32 [1,3,5,6]"}},
       "the shape [1, 5, 6, 2] for 'grid'"},
      {{"grid_sample",
        R"("kind":"linear","padding":"zeros")",
        {"float16 [1,3,4,4]", "bfloat16 [1,5,6,2]"},
        {"float16 [1,3,5,6]"}},
       "float32 or as 'x'"},
      {{"grid_sample",
        R"("kind":"cubic","padding":"zeros")",
        {"float32 [1,3,4,4,4]", "float32 [1,5,6,2,3]"},
        {"float32 [1,3,5,6,2]"}},
       "2 spatial dimensions for 'cubic'"},
      {{"grid_sample",
        R"("kind":"nearest","padding":"zeros")",
        {"float32 [1,3,0,4]", "float32 [1,5,6,2]"},
        {"float32 [1,3,5,6]"}},
       "not empty"},
      {{"grid_sample",
        R"("kind":"nearest","padding":"zeros")",
        {"float32 [0,3,16777217,4]", "float32 [0,5,6,2]"},
        {"float32 [0,3,5,6]"}},
       "up to 2^24"},
      {{"grid_sample",
        R"("kind":"nearest","padding":"zeros")",
        {"float32 [1,3,4]", "float32 [1,5,1]"},
        {"float32 [1,3,5]"}},
       "2 or 3 spatial dimensions"},
      {{"pad", R"("low":[1],"high":[1])", {"float32 [4]"}, {"float32 [5]"}}, "the shape [6] for 'out'"},
      {{"pad", R"("low":[1,1],"high":[1])", {"float32 [4]"}, {"float32 [6]"}}, "each dimension"},
      {{"pad", R"("low":[-5],"high":[2])", {"float32 [4]"}, {"float32 [1]"}}, "removes no more than"},
      {{"pad", R"("low":[4],"high":[0],"kind":"reflect")", {"float32 [4]"}, {"float32 [8]"}},
       "smaller than 'x' for 'reflect'"},
      {{"pad", R"("low":[5],"high":[0],"kind":"circular")", {"float32 [4]"}, {"float32 [9]"}},
       "for 'circular'"},
      {{"pad", R"("low":[1],"high":[0],"kind":"replicate")", {"float32 [0]"}, {"float32 [1]"}}, "not empty"},
  };
  for (const Broken& broken : table) CHECK_THROWS(read(one_op_json(broken.op)), broken.message);
}

TEST(program_check, views_stay_inside) {
  const std::string view = "[4, [2, 3], [4, -1], 3]";
  const auto with = [&](const std::string& other) { return edited(kEverything, view, other); };
  for (const char* bad : {"[4, [2, 3], [4, -1], 1]", "[4, [2, 3], [4, 1], 2]", "[4, [2, 3], [5, 1], 1]",
                          "[4, [2, 3], [4, 1], 70368744177663]", "[4, [2, 3], [70368744177663, 1], 0]",
                          "[4, [2, 3], [-70368744177663, 1], 0]",
                          "[4, [0, 1099511627775], [0, 70368744177663], 0]", "[4, [0, 3], [1, 1], 9]"}) {
    CHECK_THROWS(read(with(bad)), "reaches outside its value \"product\"");
  }
  CHECK_THROWS(read(with("[4, [1099511627775, 1099511627775], [0, 0], 0]")), "too large");
  CHECK_THROWS(read(with("[4, [2, 3], [-9223372036854775808, 1], 0]")), "'strides' has a wrong value");
  CHECK_EQ(read(with("[4, [2, 3], [0, 0], 7]")).main.size(), 5u);
}

TEST(program_check, the_order_of_the_ops_counts) {
  struct Broken {
    const char *from, *to, *message;
  };
  const std::vector<Broken> table = {
      {"\"in\": [0, [3,", "\"in\": [4, [3,",
       "main[0] \"linear\": it reads the value \"product\" before it is written"},
      {"\"in\": [[4, [2, 3], [4, -1], 3]]", "\"in\": [[5, [2, 3], [6, 1], 0]]",
       "writes the value \"both\" after or while"},
      {"\"in\": [1, [2,", "\"in\": [6, [2,", "it reads the input \"cache\""},
      {"\"in\": [1, [2,", "\"in\": [4, [2,", "before it is written"},
      {"\"out\": [3]", "\"out\": [1]", "which is defined as weight"},
      {"\"out\": [4]", "\"out\": [0]", "which is defined as input"},
      {"\"weights\": [{\"name\": \"fc.weight\", \"value\": 1",
       "\"weights\": [{\"name\": \"fc.weight\", \"value\": 0", "its value already belongs to another input"},
      {"\"outputs\": [\n    {\"name\": \"both\", \"value\": 5",
       "\"outputs\": [\n    {\"name\": \"both\", \"value\": 3", "not a value that 'main' writes"},
      {"\"outputs\": [\n    {\"name\": \"both\", \"value\": 5",
       "\"outputs\": [\n    {\"name\": \"both\", \"value\": 0", "not a value that 'main' writes"},
      {"\"outputs\": [\n    {\"name\": \"both\", \"value\": 5",
       "\"outputs\": [\n    {\"name\": \"both\", \"value\": 7", "its value is an output already"},
      {"{\"name\": \"x\", \"value\": 0, \"required\": true",
       "{\"name\": \"x\", \"value\": 0, \"required\": false", "read but not marked as required"},
      {"[5, [2, 3], [6, 1], 3]", "[5, [2, 3], [6, 1], 2]", "two ops write the same elements"},
      {"[5, [2, 3], [6, 1], 3]", "[5, [2, 3], [0, 1], 3]", "writes an element more than once"},
  };
  for (const Broken& broken : table)
    CHECK_THROWS(read(edited(kEverything, broken.from, broken.to)), broken.message);
  const OneOp one{"iota", R"("start":0,"step":1)", {}, {"int64 [7]"}};
  CHECK_THROWS(read(edited(one_op_json(one), "}],\"inputs\"",
                           R"(},{"name":"u","dtype":"bool","shape":[]}],"inputs")")),
               "value \"u\": nothing writes it");
}

TEST(program_check, updates_in_place) {
  struct Broken {
    const char *from, *to, *message;
  };
  const std::vector<Broken> table = {
      {"\"alias\": 1", "\"alias\": 0", "it updates an input of another shape or dtype"},
      {"\"alias\": null", "\"alias\": 0", "it updates an input of another shape or dtype"},
      {"\"in\": [6, 4, 8]", "\"in\": [[6, [16, 4], [4, -1], 3], 4, 8]",
       "the op that updates an input reads it while it is written"},
      {"\"in\": [6, 4, 8]", "\"in\": [6, [6, [2, 4], [4, 1], 0], 8]",
       "the op that updates an input reads it while it is written"},
  };
  for (const Broken& broken : table)
    CHECK_THROWS(read(edited(kEverything, broken.from, broken.to)), broken.message);
  const std::string late =
      R"({"op": "copy", "name": "late", "in": [6], "out": [11]}, {"op": "map", "name": "flag")";
  const std::string more = edited(kEverything, R"({"op": "map", "name": "flag")", late);
  const std::string value = R"(, {"name": "old", "dtype": "float32", "shape": [16, 4]}],
  "inputs": [)";
  CHECK_THROWS(read(edited(more, R"(],
  "inputs": [)",
                           value)),
               "an op reads the input that it has updated");
}

TEST(program_check, parts_make_up_the_whole) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> good = {
      {"[2,6]", {"[2,2],[6,1],0", "[2,4],[6,1],2"}},                        // cat along the last dimension
      {"[4,3]", {"[1,3],[3,1],0", "[3,3],[3,1],3"}},                        // along the first
      {"[4,2]", {"[4,1],[2,1],0", "[4],[2],1"}},                            // interleaved
      {"[2,3,4]", {"[3,2,4],[4,12,1],0"}},                                  // transposed
      {"[24]", {"[2,3,4],[12,4,1],0"}},                                     // another shape
      {"[1000]", {"[4,7,7],[49,7,1],0", "[804],[1],196"}},                  // of different feature maps
      {"[2,1000]", {"[2,7,7,4],[1000,28,4,1],0", "[2,804],[1000,1],196"}},  // ... in a batch
      {"[2,5]", {"[2,3],[-5,-1],7", "[2,2],[5,1],3"}},                      // backwards
      {"[2,4]", {"[1,4],[0,1],0", "[1,2],[9,1],4", "[1,2],[9,1],6", "[0,4],[1,1],0"}},
      {"[6,10]", {"[4,10],[10,1],0", "[2,5],[10,1],40", "[2,5],[10,1],45"}},  // a run across digits
      {"[]", {"[],[],0"}},
      {"[0,3]", {"[0,3],[3,1],0"}},
  };
  for (const auto& [shape, views] : good) CHECK_EQ(read(parts(shape, views)).main.size(), views.size());
  const std::vector<std::pair<std::string, std::vector<std::string>>> bad = {
      {"[2,6]", {"[2,2],[6,1],0", "[2,4],[6,1],1"}},      // overlap and gap
      {"[2,6]", {"[2,2],[6,1],0", "[2,3],[6,1],2"}},      // gap
      {"[2,6]", {"[2,3],[6,1],0", "[2,4],[6,1],2"}},      // too many
      {"[8]", {"[4],[2],0", "[4],[1],4"}},                // even ones and the second half
      {"[8]", {"[4,2],[1,2],0"}},                         // overlaps itself
      {"[8]", {"[2,2,2],[1,2,2],0"}},                     // overlaps itself
      {"[12]", {"[6],[2],0", "[3],[4],1", "[3],[3],2"}},  // strides without a common radix
  };
  for (const auto& [shape, views] : bad) CHECK_THROWS(read(parts(shape, views)), "value \"y\": its writers");
}

// Random cuts of a box are accepted; against a brute-force count nothing wrong ever is.
TEST(program_check, parts_agree_with_counting) {
  std::uint64_t state = 7;
  const auto random = [&](std::int64_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::int64_t>((state >> 33) % static_cast<std::uint64_t>(n));
  };
  int accepted = 0;
  for (int round = 0; round < 300000; ++round) {
    const std::int64_t elements = 1 + random(12);
    std::vector<Operand> views(static_cast<std::size_t>(1 + random(3)));
    std::vector<int> count(static_cast<std::size_t>(elements), 0);
    bool inside = true;
    for (Operand& view : views) {
      view.value = 0;
      view.offset = random(elements);
      for (std::int64_t d = random(3); d >= 0; --d) {
        view.shape.push_back(1 + random(4));
        view.strides.push_back(random(7) - 1);
      }
      for (std::int64_t i = 0; i < view.shape[0]; ++i) {
        for (std::int64_t j = 0; j < (view.shape.size() > 1 ? view.shape[1] : 1); ++j) {
          for (std::int64_t k = 0; k < (view.shape.size() > 2 ? view.shape[2] : 1); ++k) {
            std::int64_t at = view.offset + i * view.strides[0];
            if (view.shape.size() > 1) at += j * view.strides[1];
            if (view.shape.size() > 2) at += k * view.strides[2];
            if (at < 0 || at >= elements) {
              inside = false;
            } else {
              ++count[static_cast<std::size_t>(at)];
            }
          }
        }
      }
    }
    if (!inside) continue;
    std::vector<const Operand*> all;
    for (const Operand& view : views) all.push_back(&view);
    bool once = true;
    for (const int n : count) once = once && n == 1;
    const bool taken = check_writers(all, elements).empty();
    CHECK(!taken || once);
    accepted += taken ? 1 : 0;
  }
  CHECK(accepted > 100);
}

// Where results may lie in the memory of operands: in the arena, and as updates of inputs.
#include <algorithm>
#include <string>
#include <vector>

#include "core/plan/plan.h"
#include "npu/npu.h"
#include "support/check.h"
#include "support/sample_programs.h"

using namespace npu;
using namespace npu::test;

namespace {

// An op on the values below, and those of them in whose memory its result 6 may lie.
struct Writing {
  const char *op, *attrs, *in, *out;
  std::string on;
};

constexpr const char* kShape = R"(,"shape":[1,1,4,4]})";
constexpr const char* kNames[] = {"given", "a", "b", "c", "i", "rows", "r", "s", "t"};
constexpr const char* kAdd = R"("expr":[["in",0],["in",1],["add",0,1]])";
constexpr const char* kScatter = R"("kind":"add","axes":[3],"dims":[0,1,2,-1])";

// 1 to 3 are float32, 4 is int32, 5 names rows; 7 and 8 are further results.
const std::vector<Writing>& writings() {
  static const std::vector<Writing> all = {
      {"map", kAdd, "1, 2", "6", "12"},
      {"map", kAdd, "1, 1", "6", "1"},
      {"map", kAdd, "[1, [1,1,4,4], [16,16,1,4], 0], 2", "6", "2"},
      {"map", kAdd, "1, [1, [1,1,4,4], [16,16,1,4], 0]", "6", ""},  // transposed
      {"map", kAdd, "1, [1, [1,1,4,4], [16,16,0,1], 0]", "6", ""},  // one row for all
      {"map", R"("expr":[["in",0],["cast",0,"float32"]])", "4", "6", "4"},
      {"copy", "", "1", "6", "1"},
      {"copy", "", "[1, [1,1,4,4], [16,16,1,4], 0]", "6", ""},
      {"scatter", kScatter, "1, 2, 4", "6", "1"},
      {"scatter", kScatter, "1, 1, 4", "6", ""},
      {"scatter", kScatter, "1, [1, [1,1,2,4], [16,16,4,1], 0], [4, [1,1,2,4], [16,16,4,1], 0]", "6", ""},
      {"scatter", kScatter, "[1, [1,1,4,4], [16,16,1,4], 0], 2, 4", "6", ""},
      {"rope", "", "1, 2, 2, 3, null, 1, null, 5", "7, 6", ""},
      {"rope", "", "2, 3, 3, 1, null, 1, null, 5", "7, 6", ""},
      {"rope", "", "2, 2, 2, 2, null, 1, null, 5", "7, 6", "1"},
      {"rope", "", "2, 2, 2, 2, 2, 1, 3, 5", "7, 6, 8", "1"},
      {"rope", "", "2, 2, 2, 2, 2, 1, 3, 5", "7, 8, 6", "3"},
      {"rope", "", "2, 2, 2, 2, 2, 1, 1, 5", "7, 8, 6", ""},
      {"rope", "", "1, 2, 2, 2, null, 3, null, 5", "6, 7", ""},
      {"softmax", R"("axis":3)", "1", "6", ""},
      {"norm", R"("kind":"rms","axes":1,"eps":1e-5)", "1", "6", ""},
      {"scan", R"("kind":"sum","axis":3)", "1", "6", ""},
  };
  return all;
}

int results_of(const Writing& c) { return c.out[1] == '\0' ? 1 : c.out[4] == '\0' ? 2 : 3; }

std::string values_of(int results) {
  std::string text;
  for (int v = 0; v < 6 + results; ++v) {
    text += std::string(v ? "," : "") + R"({"name":")" + kNames[v] + R"(","dtype":)";
    text += v == 5 ? R"("int64","shape":[4]})" : std::string(v == 4 ? "\"int32\"" : "\"float32\"") + kShape;
  }
  return text;
}

std::string op_text(const Writing& c) {
  return std::string(R"({"op":")") + c.op + R"(","name":"it","in":[)" + c.in + R"(],"out":[)" + c.out +
         R"(],"attrs":{)" + c.attrs + "}}";
}

std::string listed(int first, int end) {
  std::string text;
  for (int v = first; v < end; ++v) {
    const std::string at = std::to_string(v);
    text += std::string(text.empty() ? "" : ",") + R"({"name":")" + kNames[v] + R"(","value":)" + at + "}";
  }
  return text;
}

// Every operand is made by an op, and 6 is read by one that no kernel joins with what makes it.
std::string in_arena(const Writing& c) {
  const int results = results_of(c);
  const std::string places = std::to_string(6 + results);
  std::string main, outputs = R"({"name":"places","value":)" + places + "}";
  for (const char* value : {"1", "2", "3"})
    main += std::string(R"({"op":"map","name":"make)") + value + R"(","in":[0],"out":[)" + value +
            R"(],"attrs":{"expr":[["in",0],["neg",0]]}},)";
  main += R"({"op":"map","name":"make4","in":[0],"out":[4],"attrs":{"expr":[["in",0],["cast",0,"int32"]]}},)";
  main += R"({"op":"iota","name":"make5","in":[],"out":[5],"attrs":{"start":0,"step":1}},)";
  main += op_text(c) + R"(,{"op":"reduce","name":"place","in":[6],"out":[)" + places +
          R"(],"attrs":{"kind":"argmax","axes":[3]}})";
  if (results > 1) outputs += "," + listed(7, 6 + results);
  return R"({"model_name":"arena","values":[)" + values_of(results) +
         R"(,{"name":"places","dtype":"int64","shape":[1,1,4,1]}],"inputs":[{"name":"given","value":0}],)" +
         R"("outputs":[)" + outputs + R"(],"main":[)" + main + "]}";
}

// Operands are inputs, and 6 is the update of one.
std::string of_input(const Writing& c, int updated) {
  const int results = results_of(c);
  std::string outputs = R"({"name":"r","value":6,"alias":)" + std::to_string(updated) + "}";
  if (results > 1) outputs += "," + listed(7, 6 + results);
  return R"({"model_name":"update","values":[)" + values_of(results) + R"(],"inputs":[)" + listed(0, 6) +
         R"(],"outputs":[)" + outputs + R"(],"main":[)" + op_text(c) + "]}";
}

bool accepted(const std::string& json) {
  try {
    Program::parse(program_file(json));
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

TEST(in_place, results_lie_on_operands_in_the_arena) {
  for (const char* device : {"cpu", "metal:m4pro"}) {
    for (const Writing& c : writings()) {
      const Plan plan(Program::parse(program_file(in_arena(c))), Device::open(device), 1);
      CHECK_EQ(plan.values[6].memory_of, c.on.empty() ? -1 : c.on[0] - '0');
    }
  }
}

TEST(in_place, outputs_update_what_they_may_lie_on) {
  for (const Writing& c : writings()) {
    const Program program = Program::parse(program_file(in_arena(c)));
    const Op& op = program.model().main[program.model().main.size() - 2];
    const bool writes_in_place = op.kind == OpKind::kMap || op.kind == OpKind::kCopy ||
                                 op.kind == OpKind::kScatter ||
                                 (op.kind == OpKind::kRope && op.outputs[0].value != 6);
    for (const int input : {1, 2, 3}) {
      const bool read = std::any_of(op.inputs.begin(), op.inputs.end(),
                                    [&](const Operand& operand) { return operand.value == input; });
      const bool may = c.on.find(static_cast<char>('0' + input)) != std::string::npos;
      CHECK_EQ(accepted(of_input(c, input)), writes_in_place && (may || !read));
    }
  }
}

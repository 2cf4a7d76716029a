#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "core/base/mapped_file.h"
#include "core/program/program.h"
#include "npu/error.h"
#include "support/check.h"
#include "support/sample_programs.h"

using namespace npu;
using namespace npu::test;

namespace {

ProgramModel read(const Bytes& bytes) { return read_program(bytes, "test.npubin", nullptr); }
ProgramModel read(const std::string& json) { return read(program_file(json, kEverythingConstants)); }

// kEverything with the first `from` replaced.
std::string edited(const std::string& from, const std::string& to) {
  std::string json = kEverything;
  const std::size_t at = json.find(from);
  if (at == std::string::npos) report_failure(__FILE__, __LINE__, "nothing to replace: " + from);
  return json.replace(at, from.size(), to);
}

}  // namespace

TEST(program_reader, reads_everything) {
  const ProgramModel m = read(kEverything);
  CHECK_EQ(m.model_name, "everything");
  CHECK_EQ(m.values.size(), 11u);
  CHECK_EQ(m.values[9].shape[0], 33);
  CHECK_EQ(m.values[9].extents[0].scale, 2);
  CHECK(m.values[0].extents.empty());
  CHECK(m.inputs[1].state && !m.inputs[1].required && m.inputs[2].required);
  CHECK_EQ(m.outputs[0].names[0], "logits");
  CHECK_EQ(m.outputs[1].alias, 1);
  CHECK_EQ(m.weights[0].ties[0], "head.weight");
  CHECK_EQ(m.constants[0].offset, 64);
  CHECK_EQ(m.constant_data.size(), kEverythingConstants);
  const Op& linear = m.main[0];
  CHECK_EQ(linear.inputs.size(), 7u);
  CHECK(!linear.inputs[2].present() && linear.inputs[0].whole && !linear.inputs[1].whole);
  CHECK_EQ(std::get<MatmulAttrs>(linear.attrs).epilogue.size(), 4u);
  CHECK_EQ(linear.nodes[1], "relu");
  CHECK_EQ(linear.module, "fc");
  CHECK_EQ(m.main[4].inputs[0].extents[0].symbol, 0);
  CHECK(std::get<ScatterAttrs>(m.main[3].attrs).wrap);
}

TEST(program_reader, a_view_of_everything_is_whole) {
  const ProgramModel m =
      read(edited("\"in\": [0, [3, [4, 4], [1, 4], 0], null, null, null, null, 0]",
                  "\"in\": [[0, [2, 4], [4, 1], 0], [3, [4, 4], [1, 4], 0], null, null, null, null, 0]"));
  CHECK(m.main[0].inputs[0].whole);
}

TEST(program_reader, refuses_damaged_files) {
  const Bytes good = program_file(kEverything, kEverythingConstants);
  for (const std::size_t size : {std::size_t{0}, std::size_t{7}, std::size_t{11}, std::size_t{12},
                                 std::size_t{63}, std::size_t{64}, good.size() - 1}) {
    CHECK_THROWS(read(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size))),
                 "test.npubin: ");
  }
  Bytes bytes = good;
  bytes[0] = std::byte{'P'};
  CHECK_THROWS(read(bytes), "not a compiled program");
  CHECK_THROWS(read(program_file(kEverything, 0, kFormatVersion + 1)), "written by a newer version");
  CHECK_THROWS(read(program_file(kEverything, 0, kFormatVersion - 1)),
               "written by an older version of npu-simulation");
  CHECK_THROWS(read(program_file(kEverything, 0, 0)), "no valid format version");
  bytes = good;
  bytes.back() = std::byte{1};
  CHECK_THROWS(read(bytes), "checksum");
  bytes = good;
  bytes.push_back(std::byte{0});
  CHECK_THROWS(read(bytes), "do not make up the file");
  // Sums of these overflow.
  for (const std::size_t field : {std::size_t{16}, std::size_t{24}, std::size_t{32}}) {
    for (const std::uint64_t number :
         {UINT64_MAX, UINT64_MAX - 63, std::uint64_t{1} << 63, std::uint64_t{1} << 40}) {
      bytes = good;
      put(bytes, field, number);
      CHECK_THROWS(read(bytes), "header is damaged");
    }
  }
  for (const std::size_t field : {std::size_t{48}, std::size_t{56}}) {
    bytes = good;
    put(bytes, field, 1);
    CHECK_THROWS(read(bytes), "header is damaged");
  }
}

TEST(program_reader, refuses_malformed_json) {
  CHECK_THROWS(read(std::string()), "malformed");
  CHECK_THROWS(read("{"), "syntax error");
  CHECK_THROWS(read("[]"), "is not an object");
  CHECK_THROWS(read(std::string(100000, '[')), "nested more than 32 deep");
  CHECK_THROWS(read("{\"main\":" + std::string(100000, '[')), "nested more than 32 deep");
  CHECK_THROWS(read("{\"main\":[],\"main\":[]}"), "comes twice");
  CHECK_THROWS(read("{\"model_name\":\"\xff\xfe\"}"), "syntax error");
  CHECK_THROWS(read("{\"model_name\":1e999}"), "syntax error");
  CHECK_THROWS(read(std::string("{\"a\0\":1}", 8)), "syntax error");
}

TEST(program_reader, names_what_is_wrong) {
  struct Broken {
    const char *from, *to, *message;
  };
  const std::vector<Broken> table = {
      {"\"model_name\": \"everything\", ", "", "'model_name' is missing"},
      {"\"model_name\": \"everything\"", "\"model_name\": 3",
       "'model_name' has a wrong value; got 3; expected a string"},
      {"\"producer\"", "\"colour\"", "has an unknown key; got \"colour\""},
      {"\"fc.weight\"}", "7}", "'weight_name_mapping' has a wrong value"},
      {"\"min\": 1", "\"min\": 17", "symbols[0] \"len\": 'min'"},
      {"\"max\": 16", "\"max\": 1e3", "'max' has a wrong value"},
      {"\"float32\", \"shape\": [2, 4]", "\"float64\", \"shape\": [2, 4]",
       "values[0] \"x\": there is no such dtype; got \"float64\""},
      {"\"shape\": [2, 4]", "\"shape\": [2, -4]", "values[0] \"x\": 'shape' has a wrong value; got -4"},
      {"\"shape\": [2, 4]", "\"shape\": [2, 1099511627776]", "'shape' has a wrong value"},
      {"\"shape\": [2, 4]", "\"shape\": [2.0, 4]", "'shape' has a wrong value; got 2.0"},
      {"\"shape\": [2, 4]", "\"shape\": 8", "'shape' has a wrong value; got 8; expected an array"},
      {"\"shape\": [2, 4]", "\"shape\": [1,1,1,1,1,1,1,1,8]", "'shape' is too long"},
      {"\"shape\": [2, 4]", "\"shape\": [1000000000, 1000000000]", "too large"},
      {"\"shape\": [2, 4]", "\"shape\": [0, 1000000000, 1000000000]", "too large"},
      {"\"shape\": [2, 4]", "\"shape\": [1048576, 33554432]", "fewer than 2^46 bytes"},
      {"\"sym\": 0, \"scale\": 2", "\"sym\": 1, \"scale\": 2", "'sym' has a wrong value"},
      {"\"sym\": 0, \"scale\": 2", "\"sym\": 0, \"scale\": -2", "'scale' has a wrong value"},
      {"\"offset\": 1}", "\"offset\": -3}", "out of range for some \"len\""},
      {"\"scale\": 2, \"offset\": 1}", "\"scale\": 1099511627775, \"offset\": 1}",
       "out of range for some \"len\""},
      {"\"name\": \"x\", \"dtype\"", "\"name\": \"\", \"dtype\"",
       "'name' has a wrong value; got an empty string"},
      {"\"name\": \"w\"", "\"name\": \"x\"", "two values have one name; got \"x\""},
      {"\"name\": \"cache\", \"value\": 6", "\"name\": \"x\", \"value\": 6", "two inputs have one name"},
      {"\"names\": [\"logits\"]", "\"names\": [\"updated\"]", "two outputs have one name"},
      {"\"name\": \"right\"", "\"name\": \"left\"", "two ops of 'main' have one name"},
      {"\"value\": 6,", "\"value\": 11,",
       "inputs[1] \"cache\": 'value' has a wrong value; got 11; expected an integer from 0 to 10"},
      {"\"value\": 6,", "\"value\": -1,", "'value' has a wrong value"},
      {"\"required\": true", "\"required\": 1",
       "'required' has a wrong value; got 1; expected true or false"},
      {"\"alias\": 1", "\"alias\": 4", "'alias' has a wrong value"},
      {"\"offset\": 64", "\"offset\": 65", "constant \"scale\": it lies outside the constants section"},
      {"\"offset\": 64", "\"offset\": 9223372036854775807", "outside the constants section"},
      {"\"op\": \"map\"", "\"op\": \"mop\"", "prepare[0] \"fold\": there is no such op; got \"mop\""},
      {"\"in\": [1, ", "\"in\": [null, ", "operand 0 in 'in' must not be absent"},
      {"[3, [4, 4], [1, 4], 0], null, null, null, null, 0]",
       "[3, [4, 4], [1, 4]], null, null, null, null, 0]", "a view is malformed"},
      {"[3, [4, 4], [1, 4], 0], null, null, null, null, 0]",
       "[3, [4, 4], [1], 0], null, null, null, null, 0]", "different numbers of strides"},
      {"\"in\": [0, [3, [4, 4], [1, 4], 0], null, null, null, null, 0]", "\"in\": [0]",
       "operand 'b' is missing in 'in'"},
      {"\"in\": [9]", "\"in\": 9", "'in' has a wrong value; got 9"},
      {"\"out\": [10]", "\"out\": []", "operand 'out' is missing in 'out'"},
      {"\"out\": [10]", "\"out\": [10, 10]", "'out' has too many operands"},
      {"\"axes\": [0], ", "", "main[3] \"update\": attribute 'axes' is missing"},
      {"\"wrap\": true", "\"wrong\": true", "has an unknown attribute; got \"wrong\""},
      {"\"kind\": \"set\"", "\"kind\": \"sit\"",
       "'kind' has a wrong value; got \"sit\"; expected one of set, add, mul, max, min"},
      {"\"axes\": [0]", "\"axes\": [\"0\"]", "'axes' has a wrong value"},
      {"\"attrs\": {\"kind\"", "\"attrs\": 3, \"nodes\": [], \"module\": {\"kind\"",
       "main[3] \"update\": 'module' has a wrong value"},
      {"\"nodes\": [\"linear\"", "\"nodes\": [3", "'nodes' has a wrong value"},
      {"[\"mul\", 0, 1]", "[\"mol\", 0, 1]", "'expr', step 2: no such operation; got \"mol\""},
      {"[\"mul\", 0, 1]", "[\"mul\", 0]", "'expr', step 2: \"mul\" takes 2"},
      {"[\"mul\", 0, 1]", "[\"mul\", 0, 2]", "refers to step 2, which is not an earlier one"},
      {"[\"mul\", 0, 1]", "[\"mul\", 0, -1]", "'expr' has a wrong value"},
      {"[\"mul\", 0, 1]", "[\"shl\", 0, 1]", "'shl' does not take the classes 'ff' but 'ii'"},
      {"[\"mul\", 0, 1]", "[\"cast\", 0, \"float8\"]", "no such dtype; got \"float8\""},
      {"[\"mul\", 0, 1]", "[\"in\", 2]", "there is no operand 2"},
      {"[\"mul\", 0, 1]", "[]", "'expr', step 2: is empty"},
      {"[\"gt\", 0, 1]", "[\"where\", 0, 1, 1]", "'where' does not take"},
      {"[\"const\", 3, \"i\"]", "[\"const\", 3.5, \"i\"]", "'expr' has a wrong value; got 3.5"},
      {"[\"const\", 3, \"i\"]", "[\"const\", 3, \"x\"]", "no such class"},
      {"[\"const\", 3, \"i\"]", "[\"const\", 3, \"f\"]", "'gt' does not take the classes 'if'"},
      {"[\"const\", true, \"b\"]", "[\"const\", 2, \"b\"]", "'expr' has a wrong value"},
  };
  for (const Broken& broken : table) {
    CHECK_THROWS(read(edited(broken.from, broken.to)), broken.message);
    CHECK_THROWS(read(edited(broken.from, broken.to)), "[program] test.npubin: ");
  }
}

TEST(program_reader, a_program_is_listed) {
  const std::string expected = R"text(program everything by "npu_compiler 0.1.0"
symbol len: 1 to 16
input x: %0 float32[2,4]
input cache: %6 float32[16,4], optional, state
input rows: %8 int64[2,4]
input tokens: %9 int32[2*len+1]
output both: %5 float32[2,6], also logits
output updated: %7 float32[16,4], updates cache
output flags: %10 bool[2*len+1]
weight fc.weight: %1 float32[4,4], also head.weight
constant scale: %2 float32[4]
prepare: 1 op
  %3 float32[4,4] = map(%1, %2[4,4 by 1,0]) expr="e0 * e1"  # fold
main: 5 ops
  %4 float32[2,4] = matmul(%0, b=%3[4,4 by 1,4], e1=%0) epilogue="relu(acc + e1)"  # linear (fc)
  %5[2,3 by 6,1] float32 = copy(%4[2,3 by 4,1 at 1])  # left
  %5[2,3 by 6,1 at 3] float32 = copy(%4[2,3 by 4,-1 at 3])  # right
  %7 float32[16,4] = scatter(%6, updates=%4, indices=%8) kind=set axes=[0] dims=[-1,1] wrap=true  # update
  %10 bool[2*len+1] = map(%9) expr="land(e0 > 3, true)"  # flag
)text";
  CHECK_EQ(program_text(read(kEverything)), expected);
}

TEST(program_reader, expressions_are_listed) {
  const auto listed = [](const std::string& steps) {
    const OneOp one{"map", "\"expr\":" + steps, {"float32 [2]", "float32 [2]"}, {"float32 [2]"}};
    const std::string text = program_text(read(one_op_json(one)));
    const std::size_t from = text.find("expr=\"") + 6;
    return text.substr(from, text.find('"', from) - from);
  };
  CHECK_EQ(listed(R"([["in",0],["in",1],["sub",0,1],["sub",0,2]])"), "e0 - (e0 - e1)");
  CHECK_EQ(listed(R"([["in",0],["in",1],["sub",0,1],["sub",2,0]])"), "e0 - e1 - e0");
  CHECK_EQ(listed(R"([["in",0],["in",1],["add",0,1],["div",0,2]])"), "e0 / (e0 + e1)");
  CHECK_EQ(listed(R"([["in",0],["exp",0],["add",1,1],["neg",2]])"), "t1 = exp(e0); -(t1 + t1)");
  CHECK_EQ(listed(R"([["in",0],["const",0,"f"],["gt",0,1],["where",2,0,1]])"), "where(e0 > 0.0, e0, 0.0)");
  CHECK_EQ(listed(R"([["in",0],["const",1e-30,"f"],["max",0,1],["cast",2,"float16"]])"),
           "float16(max(e0, 1e-30))");
}

TEST(program_reader, files_are_mapped) {
  const auto path = std::filesystem::temp_directory_path() / "npu_test_mapped.bin";
  std::ofstream(path) << "text";
  const auto file = MappedFile::open(path);
  CHECK_EQ(file->bytes().size(), 4u);
  CHECK(file->bytes()[1] == std::byte{'e'});
  std::ofstream(path, std::ios::trunc).close();
  CHECK(MappedFile::open(path)->bytes().empty());
  std::filesystem::remove(path);
  CHECK_THROWS(MappedFile::open(path), "npu_test_mapped.bin\"; got No such file");
  CHECK_THROWS(MappedFile::open("/"), "a folder");
  CHECK_THROWS(MappedFile::open("/dev/null"), "not a regular file");
}

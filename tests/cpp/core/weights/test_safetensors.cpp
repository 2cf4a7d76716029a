#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "core/weights/safetensors.h"
#include "npu/error.h"
#include "support/check.h"
#include "support/sample_programs.h"

using namespace npu;
using namespace npu::test;

namespace {

TensorFile parse(const Bytes& bytes) { return parse_safetensors(bytes, "w.safetensors", nullptr); }
TensorFile parse(const std::string& header, std::size_t data = 24) {
  return parse(safetensors_file(header, data));
}

// A folder that goes away with the test.
struct Folder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("npu_test_safetensors_" + std::to_string(::getpid()));
  Folder() { std::filesystem::create_directory(path); }
  ~Folder() { std::filesystem::remove_all(path); }

  std::string write(const std::string& name, const Bytes& bytes) const {
    std::ofstream(path / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return path / name;
  }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path / name) << text;
    return path / name;
  }
};

}  // namespace

TEST(safetensors, reads_tensors) {
  Bytes bytes = safetensors_file(R"({"__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "b": {"dtype": "I16", "shape": [], "data_offsets": [16, 18]},
    "c": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [18, 22]},
    "d": {"dtype": "BF16", "shape": [0, 7], "data_offsets": [22, 22]}})",
                                 22);
  bytes.back() = std::byte{9};
  const TensorFile file = parse(bytes);
  CHECK_EQ(file.tensors.size(), 4u);
  CHECK_EQ(file.tensors[0].name, "a");
  CHECK(file.tensors[0].dtype == DType::kFloat32);
  CHECK(file.tensors[0].shape == Shape({2, 2}));
  CHECK_EQ(file.tensors[1].data.size(), 2u);
  CHECK(!file.tensors[2].dtype);
  CHECK_EQ(file.tensors[2].dtype_text, "F8_E4M3");
  CHECK(file.tensors[2].data.back() == std::byte{9});
  CHECK(file.tensors[3].data.empty());
  CHECK(parse("{}", 0).tensors.empty());
}

TEST(safetensors, refuses_what_is_wrong) {
  const auto one = [](const std::string& tensor) { return "{\"a\": " + tensor + "}"; };
  CHECK_THROWS(parse(Bytes(7)), "not a safetensors file");
  CHECK_THROWS(parse(Bytes(8)), "malformed");
  Bytes huge(16);
  put(huge, 0, UINT64_MAX);
  CHECK_THROWS(parse(huge), "not a safetensors file");
  put(huge, 0, 9);
  CHECK_THROWS(parse(huge), "the file is cut off");
  CHECK_THROWS(parse("[]"), "the header is not an object");
  CHECK_THROWS(parse(std::string(5000, '[')), "nested");
  CHECK_THROWS(parse(one("3")), "tensor \"a\": is not an object");
  CHECK_THROWS(parse(one(R"({"dtype": "F32", "shape": [2]})")), "'data_offsets' is missing");
  CHECK_THROWS(parse(one(R"({"dtype": "Q4", "shape": [2], "data_offsets": [0, 8]})")),
               "unknown dtype; got \"Q4\"");
  CHECK_THROWS(parse(one(R"({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]})")), "does not match");
  CHECK_THROWS(parse(one(R"({"dtype": "F4", "shape": [3], "data_offsets": [0, 1]})")), "does not match");
  CHECK_THROWS(parse(one(R"({"dtype": "F32", "shape": [2], "data_offsets": [20, 28]})")), "'data_offsets'");
  CHECK_THROWS(parse(one(R"({"dtype": "F32", "shape": [2], "data_offsets": [8, 0]})")), "[begin, end]");
  CHECK_THROWS(parse(one(R"({"dtype": "F32", "shape": [2], "data_offsets": [0]})")), "[begin, end]");
  CHECK_THROWS(parse(one(R"({"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]})")),
               "'shape' has a wrong value");
  CHECK_THROWS(parse(one(R"({"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]})")),
               "too large");
  const std::string a = R"("a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]})";
  CHECK_THROWS(parse("{" + a + "," + a + "}"), "the key \"a\" comes twice");
  CHECK_THROWS(parse("{" + a + R"(,"b": {"dtype": "U8", "shape": [8], "data_offsets": [7, 15]}})"),
               "overlaps tensor");
}

TEST(safetensors, reads_shards) {
  const Folder folder;
  const std::string tensor = R"({"dtype": "U8", "shape": [2], "data_offsets": [0, 2]})";
  folder.write("one.safetensors", safetensors_file("{\"a\": " + tensor + "}", 2));
  folder.write("two.safetensors", safetensors_file("{\"b\": " + tensor + "}", 2));
  const auto index = [&](const std::string& map) {
    return folder.write("m.safetensors.index.json", "{\"metadata\": {}, \"weight_map\": " + map + "}");
  };
  const TensorFile file =
      read_safetensors_index(index(R"({"a": "one.safetensors", "b": "two.safetensors"})"));
  CHECK_EQ(file.tensors.size(), 2u);
  CHECK_EQ(file.tensors[1].data.size(), 2u);
  CHECK(file.tensors[1].data[0] == std::byte{0});
  CHECK_THROWS(read_safetensors_index(index(R"({"a": "two.safetensors"})")), "tensor \"a\" is not in");
  CHECK_THROWS(read_safetensors_index(index(R"({"a": "three.safetensors"})")),
               "three.safetensors\"; got No such file");
  for (const char* name : {"../one.safetensors", "/etc/passwd", "", "..", "a\\\\b", "a\\u0000b"}) {
    CHECK_THROWS(read_safetensors_index(index(std::string("{\"a\": \"") + name + "\"}")), "not a plain name");
  }
  CHECK_THROWS(read_safetensors_index(index("3")), "not a weight index");
  CHECK_THROWS(read_safetensors_index(index(R"({"a": 3})")), "'weight_map' has a wrong value");
}

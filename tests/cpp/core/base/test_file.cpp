#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "npu/error.h"
#include "npu/file.h"
#include "npu/npu.h"
#include "support/check.h"
#include "support/sample_programs.h"

using namespace npu;
using namespace npu::test;

namespace {

Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes all;
  for (const Bytes& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace

TEST(file, loads_parts_of_a_file) {
  const Bytes program = program_file(kEverything, kEverythingConstants);
  Bytes weights = safetensors_file(R"({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}})", 4);
  weights.back() = std::byte{7};
  const Bytes all = joined({Bytes(64), program, weights});
  const std::string path =
      std::filesystem::temp_directory_path() / ("npu_test_file_" + std::to_string(::getpid()));
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(all.data()), static_cast<std::streamsize>(all.size()));
  for (const bool copied : {false, true}) {
    const File file = copied ? File::copy_of(all, path) : File::open(path);
    const File part = file.part("weights", 64 + program.size(), weights.size());
    CHECK_EQ(part.name(), path + ": weights");
    CHECK_EQ(part.bytes().size(), weights.size());
    const Weights loaded = Weights::load(part);
    CHECK(static_cast<const std::byte*>(loaded.get("a").data())[3] == std::byte{7});
    // Without a copy.
    CHECK(loaded.get("a").data() == part.bytes().data() + weights.size() - 4);
    CHECK_EQ(Program::load(file.part("program", 64, program.size())).text(), Program::parse(program).text());
    CHECK_THROWS(Program::load(part), path + ": weights: not a compiled program");
    CHECK_THROWS(Weights::load(file.part("header", 0, 64)), path + ": header");
  }
  std::filesystem::remove(path);
}

TEST(file, refuses_parts_beyond_its_end) {
  const File file = File::copy_of(Bytes(10), "f");
  CHECK_EQ(file.part("all", 0, 10).bytes().size(), 10u);
  CHECK_EQ(file.part("end", 10, 0).bytes().size(), 0u);
  CHECK_THROWS(file.part("p", 11, 0), "f: p reaches beyond the end");
  CHECK_THROWS(file.part("p", 4, 7), "7 bytes from byte 4 on");
  CHECK_THROWS(file.part("p", UINT64_MAX, 2), "reaches beyond");
  CHECK_THROWS(file.part("p", 2, UINT64_MAX), "reaches beyond");
  CHECK_THROWS(file.part("p", 2, 6).part("q", 0, 7), "f: p: q reaches beyond");
}

TEST(file, has_the_checksum_of_programs) {
  CHECK_EQ(checksum(Bytes()), 0xcbf29ce484222325u);
  const Bytes program = program_file(kEverything, kEverythingConstants);
  std::uint64_t written = 0;
  std::memcpy(&written, program.data() + 40, sizeof written);
  CHECK_EQ(checksum(std::span(program).subspan(64)), written);
  Bytes odd(13, std::byte{1});
  const std::uint64_t before = checksum(odd);
  odd.back() = std::byte{2};
  CHECK(checksum(odd) != before);
}

// The readers under libFuzzer, which follows their branches: one binary for programs (NPU_FUZZ_PROGRAM=1),
// one for safetensors. tools/fuzz.py builds them, makes the files to start from, and runs them.
#include <cstring>
#include <optional>

#include "support/fuzzed_files.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace npu::test {
namespace {

constexpr bool kProgram = NPU_FUZZ_PROGRAM;

struct File {
  std::string json;
  Bytes data;  // behind it
};

std::optional<File> split(const std::uint8_t* bytes, std::size_t size) {
  constexpr std::size_t kHeader = kProgram ? 64 : 8;
  if (size < kHeader) return std::nullopt;
  std::uint64_t length = 0, start = 0;
  std::memcpy(&length, bytes + (kProgram ? 16 : 0), 8);
  if (length > size - kHeader) return std::nullopt;
  start = kHeader + length;
  if (kProgram) std::memcpy(&start, bytes + 24, 8);
  if (start < kHeader + length || start > size) return std::nullopt;
  const auto* const first = reinterpret_cast<const std::byte*>(bytes);
  return File{std::string(reinterpret_cast<const char*>(bytes) + kHeader, length),
              Bytes(first + start, first + size)};
}

// With lengths and checksum that fit, so that what is inside is read at all.
Bytes join(const File& file) {
  Bytes bytes =
      kProgram ? program_file(file.json, file.data.size()) : safetensors_file(file.json, file.data.size());
  if (!file.data.empty())
    std::memcpy(bytes.data() + bytes.size() - file.data.size(), file.data.data(), file.data.size());
  if (kProgram) put(bytes, 40, file_checksum(bytes, 64));
  return bytes;
}

void mutate(File& file, Random& random, std::size_t most) {
  if (random.below(16) == 0) file.data.resize(random.below(2 * file.data.size() + 64));
  if (random.below(2) == 0) {
    for (std::size_t n = 1 + random.below(3); n > 0; --n)
      edit_json(file.json, random, std::string(file.json));
    return;
  }
  std::string room = file.json;
  room.resize(std::max(most, file.json.size()));
  room.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(room.data()), file.json.size(), room.size()));
  file.json = room;
}

}  // namespace
}  // namespace npu::test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace npu::test;
  const auto* const first = reinterpret_cast<const std::byte*>(data);
  const Bytes bytes(first, first + size);
  (void)(kProgram ? reads_program(bytes) : reads_safetensors(bytes));
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most,
                                               unsigned seed) {
  using namespace npu::test;
  Random random{seed * 0x9e3779b97f4a7c15u + 1};
  std::optional<File> file = random.below(16) == 0 ? std::nullopt : split(data, size);
  if (!file) return LLVMFuzzerMutate(data, size, most);
  mutate(*file, random, most);
  const Bytes bytes = join(*file);
  if (bytes.size() > most) return LLVMFuzzerMutate(data, size, most);
  std::memcpy(data, bytes.data(), bytes.size());
  return bytes.size();
}

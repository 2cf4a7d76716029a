// Feeds damaged files to the readers: fuzz_reader COUNT [SEED], or writes the files that it starts from:
// fuzz_reader --seeds FOLDER. Deterministic. Whatever comes, a reader
// returns or throws npu::Error, and its memory stays in proportion to the file.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <new>
#include <string>

#include "support/fuzzed_files.h"

namespace {

std::size_t in_use = 0, most_in_use = 0;
constexpr std::size_t kPrefix = 16;  // in front of each block: its size

}  // namespace

void* operator new(std::size_t size) {
  auto* const block = static_cast<std::size_t*>(std::malloc(size + kPrefix));
  if (block == nullptr) throw std::bad_alloc();
  *block = size;
  in_use += size;
  most_in_use = in_use > most_in_use ? in_use : most_in_use;
  return reinterpret_cast<char*>(block) + kPrefix;
}

void operator delete(void* pointer) noexcept {
  if (pointer == nullptr) return;
  auto* const block = reinterpret_cast<std::size_t*>(static_cast<char*>(pointer) - kPrefix);
  in_use -= *block;
  std::free(block);
}

void operator delete(void* pointer, std::size_t) noexcept { operator delete(pointer); }

namespace npu::test {
namespace {

struct Seed {
  bool program = true;  // else safetensors
  std::string json;
  std::size_t data = 0;  // bytes behind it
};

std::vector<Seed> make_seeds() {
  std::vector<Seed> seeds;
  // Most of the rules are about this one.
  for (int i = 0; i < 8; ++i) seeds.push_back({true, kEverything, kEverythingConstants});
  for (const OneOp& one : valid_ops()) seeds.push_back({true, one_op_json(one), 0});
  seeds.push_back(
      {false,
       R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
       R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[16,24]},)"
       R"("c":{"dtype":"F4","shape":[],"data_offsets":[24,24]}})",
       24});
  seeds.push_back({false, R"({"x":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})", 8});
  return seeds;
}

struct Tally {
  long accepted = 0, refused = 0;
};

void read_one(const Bytes& bytes, bool program, Tally& tally) {
  // A copy of the exact size, so that the sanitizer sees what is read beyond it.
  const Bytes exact(bytes);
  const std::size_t before = in_use;
  most_in_use = in_use;
  ++((program ? reads_program(exact) : reads_safetensors(exact)) ? tally.accepted : tally.refused);
  const std::size_t used = most_in_use - before;
  if (used > (std::size_t{1} << 20) + 64 * exact.size()) {
    std::fprintf(stderr, "%zu bytes for a file of %zu\n", used, exact.size());
    std::abort();
  }
}

void fuzz(long count, std::uint64_t seed) {
  const std::vector<Seed> seeds = make_seeds();
  Random random{seed * 0x9e3779b97f4a7c15u + 1};
  Tally tally;
  for (long i = 0; i < count; ++i) {
    const Seed& from = seeds[random.below(seeds.size())];
    std::string json = from.json;
    if (random.below(8) != 0) {
      for (std::size_t n = 1 + random.below(3); n > 0; --n)
        edit_json(json, random, seeds[random.below(seeds.size())].json);
    }
    Bytes bytes = from.program ? program_file(json, from.data) : safetensors_file(json, from.data);
    if (random.below(8) == 0) edit_bytes(bytes, random);
    read_one(bytes, from.program, tally);
  }
  std::printf("%ld files: %ld accepted, %ld refused\n", count, tally.accepted, tally.refused);
  // A fuzzer that reaches no deep code, or mutates nothing, proves nothing.
  if (count >= 1000 && (tally.accepted < count / 50 || tally.refused < count / 10)) std::abort();
}

void write_seeds(const std::string& folder) {
  int count = 0;
  for (const Seed& seed : make_seeds()) {
    const Bytes bytes =
        seed.program ? program_file(seed.json, seed.data) : safetensors_file(seed.json, seed.data);
    const std::string name =
        folder + (seed.program ? "/program/" : "/safetensors/") + std::to_string(count++);
    std::ofstream file(name, std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!file.flush()) std::abort();
  }
}

}  // namespace
}  // namespace npu::test

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--seeds") {
    npu::test::write_seeds(argv[2]);
    return 0;
  }
  npu::test::fuzz(argc > 1 ? std::atol(argv[1]) : 20000, argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1);
}

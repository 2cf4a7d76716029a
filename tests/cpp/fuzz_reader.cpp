// Feeds damaged files to the readers: fuzz_reader COUNT [SEED]. Deterministic. Whatever comes, a reader
// returns or throws npu::Error, and its memory stays in proportion to the file.
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <new>

#include "npu/error.h"
#include "program.h"
#include "safetensors.h"
#include "sample_programs.h"

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

struct Random {
  std::uint64_t state;
  std::uint64_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  }
  std::size_t below(std::size_t n) { return n == 0 ? 0 : next() % n; }
};

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

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Another number in the place of one, often at an edge.
void edit_number(std::string& json, Random& random) {
  static const char* const numbers[] = {"0",
                                        "1",
                                        "-1",
                                        "2",
                                        "3",
                                        "4",
                                        "5",
                                        "7",
                                        "8",
                                        "9",
                                        "16",
                                        "64",
                                        "255",
                                        "1048576",
                                        "1048577",
                                        "2147483647",
                                        "2147483648",
                                        "4294967296",
                                        "1099511627775",
                                        "1099511627776",
                                        "70368744177663",
                                        "70368744177664",
                                        "9223372036854775807",
                                        "-9223372036854775808",
                                        "18446744073709551615",
                                        "1e308",
                                        "1e999",
                                        "0.5",
                                        "-0.0",
                                        "1e-320",
                                        "null",
                                        "true",
                                        "\"nan\"",
                                        "[]",
                                        "{}",
                                        "[0]"};
  const std::size_t start = random.below(json.size());
  for (std::size_t i = 0; i < json.size(); ++i) {
    const std::size_t at = (start + i) % json.size();
    if (!is_digit(json[at]) || (at > 0 && is_digit(json[at - 1]))) continue;
    std::size_t end = at;
    while (end < json.size() && is_digit(json[end])) ++end;
    json.replace(at, end - at, numbers[random.below(std::size(numbers))]);
    return;
  }
}

// Swaps, repeats or drops a bracketed piece.
void edit_piece(std::string& json, Random& random) {
  const auto piece = [&](std::size_t& from, std::size_t& length) {
    from = json.find_first_of("[{\"", random.below(json.size()));
    if (from == std::string::npos) return false;
    const char close = json[from] == '[' ? ']' : json[from] == '{' ? '}' : '"';
    const std::size_t end = json.find(close, from + 1);
    if (end == std::string::npos) return false;
    length = end + 1 - from;
    return true;
  };
  std::size_t a = 0, b = 0, la = 0, lb = 0;
  if (!piece(a, la) || !piece(b, lb)) return;
  const std::string text = json.substr(a, la);
  switch (random.below(3)) {
    case 0:
      json.replace(b, lb, text);
      break;
    case 1:
      json.insert(b, text + ",");
      break;
    default:
      json.erase(a, la + (a + la < json.size() && json[a + la] == ',' ? 1 : 0));
  }
}

void edit_json(std::string& json, Random& random, const std::vector<Seed>& seeds) {
  if (json.empty()) return;
  switch (random.below(8)) {
    case 0:
      json[random.below(json.size())] = static_cast<char>(random.next());
      break;
    case 1: {
      const std::string& other = seeds[random.below(seeds.size())].json;
      const std::size_t from = random.below(other.size());
      json.replace(random.below(json.size()), random.below(40), other.substr(from, random.below(40)));
      break;
    }
    case 2:
    case 3:
      edit_piece(json, random);
      break;
    case 4:
      json.insert(random.below(json.size()), std::string(random.below(200), "[{\" ,0"[random.below(6)]));
      break;
    default:
      edit_number(json, random);
  }
}

void edit_bytes(Bytes& bytes, Random& random) {
  switch (random.below(4)) {
    case 0:
      bytes.resize(random.below(bytes.size() + 1));
      break;
    case 1:
      put(bytes, random.below(std::min<std::size_t>(bytes.size() / 8, 8)) * 8,
          random.next() >> random.below(64));
      break;
    case 2:
      bytes.insert(bytes.end(), random.below(100), std::byte{0});
      break;
    default:
      bytes[random.below(bytes.size())] ^= static_cast<std::byte>(1 << random.below(8));
  }
}

struct Tally {
  long accepted = 0, refused = 0;
};

void read_one(const Bytes& bytes, bool program, Tally& tally) {
  // A copy of the exact size, so that the sanitizer sees what is read beyond it.
  const Bytes exact(bytes);
  const std::size_t before = in_use;
  most_in_use = in_use;
  try {
    if (program) {
      // check_program is part of it; a listing must be possible of what was accepted.
      const ProgramModel model = read_program(exact, "fuzz", nullptr);
      (void)program_text(model);
    } else {
      std::size_t sum = 0;
      for (const StoredTensor& tensor : parse_safetensors(exact, "fuzz", nullptr).tensors) {
        for (const std::byte b : tensor.data) sum += static_cast<std::size_t>(b);
      }
      if (sum == 1) std::puts("");
    }
    ++tally.accepted;
  } catch (const Error&) {
    ++tally.refused;
  }
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
      for (std::size_t n = 1 + random.below(3); n > 0; --n) edit_json(json, random, seeds);
    }
    Bytes bytes = from.program ? program_file(json, from.data) : safetensors_file(json, from.data);
    if (random.below(8) == 0) edit_bytes(bytes, random);
    read_one(bytes, from.program, tally);
  }
  std::printf("%ld files: %ld accepted, %ld refused\n", count, tally.accepted, tally.refused);
  // A fuzzer that reaches no deep code, or mutates nothing, proves nothing.
  if (count >= 1000 && (tally.accepted < count / 50 || tally.refused < count / 10)) std::abort();
}

}  // namespace
}  // namespace npu::test

int main(int argc, char** argv) {
  npu::test::fuzz(argc > 1 ? std::atol(argv[1]) : 20000, argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1);
}

// For the fuzzers: changes that make a valid file an invalid one, or another valid one, and the reading of
// it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>

#include "core/program/program.h"
#include "core/weights/safetensors.h"
#include "npu/error.h"
#include "support/sample_programs.h"

namespace npu::test {

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

inline bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Another number in the place of one, often at an edge.
inline void edit_number(std::string& json, Random& random) {
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
inline void edit_piece(std::string& json, Random& random) {
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

// `other` is a file to take pieces from.
inline void edit_json(std::string& json, Random& random, const std::string& other) {
  if (json.empty()) return;
  switch (random.below(8)) {
    case 0:
      json[random.below(json.size())] = static_cast<char>(random.next());
      break;
    case 1: {
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

inline void edit_bytes(Bytes& bytes, Random& random) {
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

// Whether the reader accepts it. Whatever comes, it returns or throws npu::Error.
inline bool reads_program(const Bytes& bytes) {
  try {
    // check_program is part of it; a listing must be possible of what was accepted.
    return !program_text(read_program(bytes, "fuzz", nullptr)).empty();
  } catch (const Error&) {
    return false;
  }
}

inline bool reads_safetensors(const Bytes& bytes) {
  try {
    volatile unsigned sum = 0;  // every byte that it hands out must be there
    for (const StoredTensor& tensor : parse_safetensors(bytes, "fuzz", nullptr).tensors) {
      for (const std::byte b : tensor.data) sum = sum + static_cast<unsigned>(b);
    }
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace npu::test

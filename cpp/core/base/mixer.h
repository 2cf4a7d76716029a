// A hash of 128 bits, for telling things apart, not against people who mean harm.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace npu {

// Two mixings with different constants; bytes that differ give other sums but for one chance in 2^128.
class Mixer {
 public:
  void number(std::uint64_t x) {
    high_ = mix(high_ ^ x, 0xbf58476d1ce4e5b9u);
    low_ = mix(low_ + x, 0xff51afd7ed558ccdu);
  }
  void numbers(const std::vector<std::int64_t>& all) {
    number(all.size());
    for (const std::int64_t n : all) number(static_cast<std::uint64_t>(n));
  }
  void bytes(const void* data, std::size_t size) {
    const auto* at = static_cast<const std::byte*>(data);
    number(size);
    for (; size > 0; at += sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      const std::size_t part = std::min(size, sizeof word);
      std::memcpy(&word, at, part);
      number(word);
      size -= part;
    }
  }
  void text(std::string_view text) { bytes(text.data(), text.size()); }

  std::uint64_t high() const { return high_; }
  std::uint64_t low() const { return low_; }
  std::string hex() const {
    std::string text;
    for (const std::uint64_t word : {high_, low_}) {
      for (int shift = 60; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
    }
    return text;
  }

 private:
  static std::uint64_t mix(std::uint64_t z, std::uint64_t factor) {
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * factor;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  std::uint64_t high_ = 1, low_ = 2;
};

}  // namespace npu

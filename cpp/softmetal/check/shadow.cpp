#include "check/shadow.h"

#include <algorithm>

namespace softmetal {

Shadow::Shadow(void* data, std::size_t bytes, bool initialised)
    : data_(static_cast<unsigned char*>(data)),
      bytes_(bytes),
      initialised_(initialised),
      pages_((bytes + kPage - 1) / kPage) {
  if (!initialised)
    for (std::size_t i = 0; i < bytes; ++i) data_[i] = pattern(i);
}

Cell* Shadow::cells(std::size_t offset) {
  auto& page = pages_[offset / kPage];
  if (!page) page = std::make_unique<Cell[]>(kPage);
  return page.get() + offset % kPage;
}

unsigned char Shadow::pattern(std::size_t offset) {
  std::uint64_t mixed = (offset + 1) * 0x9e3779b97f4a7c15ull;
  return static_cast<unsigned char>((mixed ^ (mixed >> 29)) >> 24);
}

bool Shadow::suspicious(std::size_t offset) {
  return data_[offset] == pattern(offset) && cells(offset)->write.moment == 0;
}

// By words of four bytes: what is smaller could hold the pattern by chance.
bool Shadow::unwritten(std::size_t offset, std::size_t bytes) {
  if (initialised_) return false;
  for (std::size_t word = offset / 4 * 4; word < offset + bytes; word += 4) {
    std::size_t stop = std::min(word + 4, bytes_), count = 0;
    for (std::size_t i = word; i < stop; ++i) count += suspicious(i);
    if (count == stop - word && count > 1) return true;
  }
  return false;
}

}  // namespace softmetal

#include "core/program/regions.h"

#include <algorithm>

#include "core/program/shapes.h"

namespace npu {

namespace {

constexpr std::size_t kMostWriters = 4096;  // of one value: every pair of them is compared
constexpr const char* kUnproven = "they may overlap";

struct Run {
  std::int64_t stride, extent;
};

// A view as the set of its elements: runs of ascending positive strides that start at `offset`, with
// dimensions that lie behind each other joined.
struct Lattice {
  std::int64_t offset = 0;
  std::vector<Run> runs;
};

Lattice lattice_of(const Operand& view) {
  Lattice lattice{view.offset, {}};
  for (std::size_t d = 0; d < view.shape.size(); ++d) {
    if (view.shape[d] == 1) continue;
    Run run{view.strides[d], view.shape[d]};
    if (run.stride < 0) {
      lattice.offset += run.stride * (run.extent - 1);
      run.stride = -run.stride;
    }
    lattice.runs.push_back(run);
  }
  auto& runs = lattice.runs;
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.stride < b.stride; });
  std::size_t kept = 0;
  for (std::size_t i = 1; i < runs.size(); ++i) {
    if (runs[i].stride == runs[kept].stride * runs[kept].extent) {
      runs[kept].extent *= runs[i].extent;
    } else {
      runs[++kept] = runs[i];
    }
  }
  if (!runs.empty()) runs.resize(kept + 1);
  return lattice;
}

// Positions are written as numbers in a mixed radix: the digit j counts bases[j] elements and goes up to
// bases[j + 1] / bases[j]. A box is an interval of every digit. Positions have one such form only, so two
// boxes are disjoint if and only if the intervals of some digit are.
struct Box {
  std::vector<std::int64_t> low, count;
};

bool to_box(const Lattice& lattice, const std::vector<std::int64_t>& bases, Box& box) {
  const std::size_t digits = bases.size() - 1;
  box.low.resize(digits);
  box.count.assign(digits, 1);
  std::int64_t rest = lattice.offset;
  for (std::size_t j = digits; j-- > 0; rest %= bases[j]) box.low[j] = rest / bases[j];
  for (const Run& run : lattice.runs) {
    auto j =
        static_cast<std::size_t>(std::lower_bound(bases.begin(), bases.end(), run.stride) - bases.begin());
    std::int64_t left = run.extent;
    // A run longer than its digit must fill it and go on in the next one.
    while (true) {
      if (j >= digits || box.count[j] != 1) return false;
      const std::int64_t range = bases[j + 1] / bases[j];
      if (box.low[j] + left <= range) break;
      if (box.low[j] != 0 || left % range != 0) return false;
      box.count[j++] = range;
      left /= range;
    }
    box.count[j] = left;
  }
  return true;
}

bool disjoint(const Box& a, const Box& b) {
  for (std::size_t j = 0; j < a.low.size(); ++j) {
    if (a.low[j] + a.count[j] <= b.low[j] || b.low[j] + b.count[j] <= a.low[j]) return true;
  }
  return false;
}

}  // namespace

std::string check_writers(const std::vector<const Operand*>& views, std::int64_t elements) {
  std::int64_t written = 0;
  std::vector<Lattice> lattices;
  std::vector<std::int64_t> bases = {1, elements};
  if (views.size() > kMostWriters) return "more than " + std::to_string(kMostWriters) + " ops write it";
  for (const Operand* view : views) {
    const std::int64_t part = elements_of(view->shape).value_or(kMostBytes);
    written += part;  // at most 4096 * 2^46
    if (part == 0) continue;
    lattices.push_back(lattice_of(*view));
    for (const Run& run : lattices.back().runs) {
      if (run.stride == 0) return "an op writes an element more than once";
      bases.push_back(run.stride);
    }
  }
  if (written != elements) {
    return std::to_string(written) + " elements are written, and it has " + std::to_string(elements);
  }
  if (elements == 0) return {};
  std::sort(bases.begin(), bases.end());
  bases.erase(std::unique(bases.begin(), bases.end()), bases.end());
  if (bases.size() == 1) bases.push_back(1);  // a single element has one digit, with one value
  if (bases.back() != elements) return kUnproven;
  for (std::size_t j = 0; j + 1 < bases.size(); ++j) {
    if (bases[j + 1] % bases[j] != 0) return kUnproven;
  }
  std::vector<Box> boxes(lattices.size());
  for (std::size_t i = 0; i < boxes.size(); ++i) {
    if (!to_box(lattices[i], bases, boxes[i])) return kUnproven;
  }
  for (std::size_t i = 0; i < boxes.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      if (!disjoint(boxes[i], boxes[k])) return "two ops write the same elements";
    }
  }
  return {};
}

}  // namespace npu

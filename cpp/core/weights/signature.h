// What the constant values of a plan are made of: equal signatures, equal bytes.
#pragma once

#include <compare>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/plan/plan.h"
#include "core/weights/weight_tensor.h"

namespace npu {

struct Signature {
  std::uint64_t high = 0, low = 0;
  auto operator<=>(const Signature&) const = default;
};

// Of a weight it is its identity, with which its bytes cannot change while it is held; of a constant it is
// its content; of a prepared value the op that makes it, applied to the signatures of what that reads.
class Signatures {
 public:
  // `sources`: weights and constants by value of the plan. Both outlive this object.
  Signatures(const Plan& plan, std::span<const WeightTensor> sources);

  Signature of(std::size_t value);

 private:
  Signature of_source(std::size_t value) const;
  Signature of_prepared(std::size_t value);

  const Plan& plan_;
  std::span<const WeightTensor> sources_;
  std::vector<std::vector<std::size_t>> producers_;  // steps of prepare that write each value
  std::vector<Signature> known_;
  std::vector<bool> is_known_;
};

}  // namespace npu

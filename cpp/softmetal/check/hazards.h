// The dispatches of one encoder, and which of them no barrier separates.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace softmetal {

class Hazards {
 public:
  void barrier() { barrier_ = true; }

  // A dispatch begins at this moment.
  void begin(const std::string& kernel, std::uint32_t moment) {
    if (barrier_ || dispatches_.empty()) unordered_since_ = moment;
    barrier_ = false;
    dispatches_.push_back({kernel, moment});
  }
  std::uint32_t unordered_since() const { return unordered_since_; }
  std::size_t current() const { return dispatches_.size() - 1; }

  // The dispatch that a moment belongs to.
  std::size_t at(std::uint32_t moment) const {
    std::size_t i = dispatches_.size();
    while (i > 1 && dispatches_[i - 1].first > moment) --i;
    return i - 1;
  }
  const std::string& kernel(std::size_t dispatch) const { return dispatches_[dispatch].kernel; }

 private:
  struct Dispatch {
    std::string kernel;
    std::uint32_t first;
  };
  std::vector<Dispatch> dispatches_;
  std::uint32_t unordered_since_ = 0;
  bool barrier_ = false;
};

}  // namespace softmetal

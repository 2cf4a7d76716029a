#include "core/plan/plan.h"

namespace npu {

std::string Step::name() const {
  std::string all;
  for (auto before = fused.rbegin(); before != fused.rend(); ++before) all += (*before)->name + " + ";
  return all + op->name;
}

}  // namespace npu

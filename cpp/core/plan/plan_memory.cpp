#include "core/plan/plan_memory.h"

#include <algorithm>

#include "core/program/in_place.h"

namespace npu {

namespace {

std::size_t at(int value) { return static_cast<std::size_t>(value); }

class ArenaPlan {
 public:
  ArenaPlan(std::vector<PlannedValue>& values, const std::vector<Step>& steps)
      : values_(values), steps_(steps), lives_(values.size()) {
    for (std::size_t s = 0; s < steps.size(); ++s) {
      for (const auto* operands : {&steps[s].inputs, &steps[s].outputs}) {
        for (const PlannedOperand& operand : *operands) {
          if (operand.value >= 0) touch(lives_[at(operand.value)], static_cast<int>(s));
        }
      }
    }
  }

  // A result that is first written by a step may reuse the memory of an operand that is last read by it.
  void share() {
    for (std::size_t s = 0; s < steps_.size(); ++s) {
      const Op& op = *steps_[s].op;
      for (std::size_t r = 0; r < op.outputs.size(); ++r) {
        if (op.outputs[r].present()) share(op, r, static_cast<int>(s));
      }
    }
  }

  ArenaSizes arrange_all() {
    std::vector<Lifetime> lifetimes;
    std::vector<std::size_t> owners;
    for (std::size_t v = 0; v < values_.size(); ++v) {
      const Life& life = lives_[v];
      if (values_[v].space != Space::kArena || values_[v].memory_of >= 0 || life.first < 0) continue;
      lifetimes.push_back({values_[v].value.bytes(), life.first, life.last});
      owners.push_back(v);
    }
    const ArenaSizes sizes = arrange(lifetimes);
    for (std::size_t i = 0; i < owners.size(); ++i) values_[owners[i]].offset = lifetimes[i].offset;
    for (PlannedValue& value : values_) {
      if (value.memory_of >= 0) value.offset = values_[at(value.memory_of)].offset;
    }
    return sizes;
  }

 private:
  struct Life {
    int first = -1, last = -1;  // steps; of a value whose memory others take over, up to their end
  };

  static void touch(Life& life, int step) {
    if (life.first < 0) life.first = step;
    life.last = step;
  }

  int owner_of(int value) const {
    const int owner = values_[at(value)].memory_of;
    return owner < 0 ? value : owner;
  }

  void share(const Op& op, std::size_t result, int step) {
    const Operand& out = op.outputs[result];
    PlannedValue& target = values_[at(out.value)];
    if (target.space != Space::kArena || lives_[at(out.value)].first != step || !writes_in_place(op, result))
      return;
    for (const Operand& in : op.inputs) {
      if (!in.present() || in.value == out.value) continue;
      const PlannedValue& source = values_[at(in.value)];
      const int owner = owner_of(in.value);
      const bool fits = source.space == Space::kArena && source.layout == target.layout &&
                        size_of(source.value.dtype) == size_of(target.value.dtype) &&
                        lives_[at(owner)].last == step;
      const auto lies_there = [&](const Operand& operand) { return owner_of(operand.value) == owner; };
      if (!fits || !may_write_over(op, result, lies_there)) continue;
      target.memory_of = owner;
      lives_[at(owner)].last = lives_[at(out.value)].last;
      return;
    }
  }

  std::vector<PlannedValue>& values_;
  const std::vector<Step>& steps_;
  std::vector<Life> lives_;
};

}  // namespace

ArenaSizes assign_memory(std::vector<PlannedValue>& values, const std::vector<Step>& steps) {
  ArenaPlan memory(values, steps);
  memory.share();
  return memory.arrange_all();
}

}  // namespace npu

#include "core/run/checked_runner.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/base/text.h"
#include "core/geometry/nest.h"
#include "npu/error.h"

namespace npu {

namespace {

constexpr std::byte kUnwritten{0xa5};  // fills private memory before a run

// A part of a value as it lies in memory, and the last step before which it must not change.
struct Part {
  PlannedOperand operand;
  const TensorDesc* desc;
  int until;
};

// Of the dimensions from `d` on.
bool same_bits(const Nest& nest, int d, std::int64_t size, const std::byte* a, const std::byte* b) {
  const auto at = static_cast<std::size_t>(d);
  const std::int64_t n = nest.extent[at], step = nest.strides[0][at] * size;
  const bool inner = d == nest.rank - 1;
  if (inner && step == size) return std::memcmp(a, b, static_cast<std::size_t>(n * size)) == 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::byte *x = a + i * step, *y = b + i * step;
    if (inner ? std::memcmp(x, y, static_cast<std::size_t>(size)) != 0 : !same_bits(nest, d + 1, size, x, y))
      return false;
  }
  return true;
}

// What lies at an address, for the host to look at.
class OnHost {
 public:
  OnHost(const Address& address, std::size_t bytes) : data_(address.data) {
    if (on_host(address)) return;
    copy_.resize(bytes);
    copy_bytes({copy_.data(), nullptr}, address, bytes);
    data_ = copy_.data();
  }
  const std::byte* data() const { return data_; }

 private:
  std::vector<std::byte> copy_;
  const std::byte* data_;
};

class CheckedRunner final : public Runner {
 public:
  CheckedRunner(const Plan& plan, std::unique_ptr<Runner> runner)
      : plan_(plan),
        runner_(std::move(runner)),
        own_(plan.values.size()),
        whole_(plan.values.size()),
        last_(plan.values.size(), -1) {
    for (std::size_t v = 0; v < own_.size(); ++v) {
      const PlannedValue& value = plan.values[v];
      if (value.space != Space::kArena && value.space != Space::kInput && value.space != Space::kOutput)
        continue;
      own_[v] = plan.device.backend().allocate(value.value.dtype, value.value.shape);
      whole_[v] = {.dtype = value.value.dtype, .shape = {own_[v].elements()}, .strides = {1}};
      if (value.space == Space::kOutput) last_[v] = end();
    }
    for (int s = 0; s < end(); ++s) {
      for (const PlannedOperand& in : plan.steps[static_cast<std::size_t>(s)].inputs) {
        if (in.value >= 0) last_[index(in)] = std::max(last_[index(in)], s);
      }
    }
  }

  void run(const RunAddresses& addresses, std::span<StepTime> times) override {
    const RunAddresses apart = begin(addresses);
    const std::int64_t start = nanoseconds_now();
    for (std::size_t s = 0; s < plan_.steps.size(); ++s) {
      const std::int64_t before = nanoseconds_now();
      runner_->run_step(addresses, s);
      if (!times.empty()) times[s] = {before - start, nanoseconds_now() - before};
      runner_->run_step(apart, s);
      check_results(addresses, s);
      check_kept(addresses, s);
    }
  }

  void run_step(const RunAddresses& addresses, std::size_t step) override {
    runner_->run_step(addresses, step);
  }

 private:
  static std::size_t index(const PlannedOperand& operand) { return static_cast<std::size_t>(operand.value); }
  int end() const { return static_cast<int>(plan_.steps.size()); }

  // Inputs as they are, and nothing else yet.
  RunAddresses begin(const RunAddresses& addresses) {
    apart_.assign(addresses.values.begin(), addresses.values.end());
    kept_.clear();
    for (std::size_t v = 0; v < own_.size(); ++v) {
      const std::byte* const given = apart_[v].data;
      const bool input = plan_.values[v].space == Space::kInput;
      if (!own_[v] || (input && given == nullptr)) continue;
      if (!input) {
        const std::vector<std::byte> unwritten(own_[v].bytes(), kUnwritten);
        own_[v].write(unwritten.data());
      } else {
        copy_bytes(address_of(own_[v]), apart_[v], own_[v].bytes());
        const bool updated = std::any_of(plan_.output_values.begin(), plan_.output_values.end(), [&](int o) {
          return addresses.values[static_cast<std::size_t>(o)].data == given;
        });
        kept_.push_back({{static_cast<int>(v), 0}, &whole_[v], updated ? last_[v] : end()});
      }
      apart_[v] = address_of(own_[v]);
    }
    return {apart_, addresses.packed, addresses.scratch};
  }

  bool same(const RunAddresses& addresses, const Part& part) const {
    const Nest nest = make_nest(part.desc->shape, {part.desc->strides});
    const std::size_t v = index(part.operand);
    if (nest.rows == 0) return true;
    const OnHost planned(addresses.values[v], own_[v].bytes()), apart(apart_[v], own_[v].bytes());
    return same_bits(nest, 0, static_cast<std::int64_t>(size_of(part.desc->dtype)),
                     planned.data() + part.operand.offset, apart.data() + part.operand.offset);
  }

  void check_results(const RunAddresses& addresses, std::size_t s) {
    const Step& step = plan_.steps[s];
    for (std::size_t i = 0; i < step.outputs.size(); ++i) {
      if (step.outputs[i].value < 0) continue;
      const Part part{step.outputs[i], &step.output_descs[i], last_[index(step.outputs[i])]};
      if (!same(addresses, part))
        refuse(s, "gives different bits than with every tensor in its own memory", part);
      kept_.push_back(part);
    }
  }

  void check_kept(const RunAddresses& addresses, std::size_t s) {
    std::erase_if(kept_, [&](const Part& part) { return part.until <= static_cast<int>(s); });
    for (const Part& part : kept_) {
      if (!same(addresses, part)) refuse(s, "writes over a tensor that is still needed", part);
    }
  }

  [[noreturn]] void refuse(std::size_t s, const std::string& what, const Part& part) const {
    const Step& step = plan_.steps[s];
    throw Error(ErrorKind::kInternal,
                {.area = "plan",
                 .what = "step " + std::to_string(s) + ", " + step.kernel->name() + " of " +
                         quoted(step.name()) + ", " + what,
                 .got = "a difference in " + quoted(plan_.values[index(part.operand)].value.name),
                 .action = "reporting this with the program and executor.plan()"});
  }

  const Plan& plan_;
  std::unique_ptr<Runner> runner_;
  std::vector<Buffer> own_;        // by value, of those that a run writes or is given
  std::vector<TensorDesc> whole_;  // the same
  std::vector<int> last_;          // by value, the last step that reads it
  std::vector<Address> apart_;     // by value
  std::vector<Part> kept_;         // what must not change now
};

}  // namespace

bool plans_are_checked() { return environment_choice("NPU_CHECK_PLAN", {"0", "1"}) == "1"; }

std::unique_ptr<Runner> make_checked_runner(const Plan& plan, std::unique_ptr<Runner> runner) {
  return std::make_unique<CheckedRunner>(plan, std::move(runner));
}

}  // namespace npu

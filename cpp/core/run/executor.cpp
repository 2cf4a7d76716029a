#include "npu/executor.h"

#include <mutex>

#include "core/plan/plan.h"
#include "core/run/checked_runner.h"
#include "core/run/session.h"
#include "npu/error.h"
#include "npu/threads.h"

namespace npu {

struct Executor::Impl {
  ~Impl() {
    if (plan) plan->users.forget(plan->id);  // the state of runs holds the plan
  }

  std::shared_ptr<const Plan> plan;
  bool has_state = false;
  mutable std::mutex mutex;
  mutable std::vector<std::shared_ptr<Session::Impl>> idle;  // sessions of callers that have finished

  std::shared_ptr<Session::Impl> take() const {
    {
      const std::lock_guard lock(mutex);
      if (!idle.empty()) {
        auto session = std::move(idle.back());
        idle.pop_back();
        return session;
      }
    }
    return std::make_shared<Session::Impl>(plan);
  }

  void give_back(std::shared_ptr<Session::Impl> session) const {
    const std::lock_guard lock(mutex);
    idle.push_back(std::move(session));
  }
};

Executor::Executor(Program program, Device device, ExecutorOptions options) {
  if (!program.model().symbols.empty()) {
    throw Error(ErrorKind::kUnavailable,
                {.area = "executor",
                 .what = "the program has run-time integers, which this version does not run",
                 .got = quoted(program.model().symbols[0].name)});
  }
  if (options.threads < 0 || options.threads > kMaxThreads) {
    throw Error(ErrorKind::kInvalidValue,
                {.area = "executor",
                 .what = "the number of threads is out of range",
                 .got = std::to_string(options.threads),
                 .expected = "1 to " + std::to_string(kMaxThreads) + ", or 0 for the default"});
  }
  const int threads = options.threads > 0 ? options.threads : num_threads();
  auto impl = std::make_shared<Impl>();
  impl->plan =
      std::make_shared<const Plan>(std::move(program), std::move(device), threads, plans_are_checked());
  for (const auto& input : impl->plan->model().inputs) impl->has_state |= input.state;
  impl_ = std::move(impl);
}

const Program& Executor::program() const { return impl_->plan->program; }
const Device& Executor::device() const { return impl_->plan->device; }
int Executor::threads() const { return impl_->plan->threads; }
std::string Executor::plan() const { return impl_->plan->text(); }

PlanSummary Executor::summary() const {
  const Plan& plan = *impl_->plan;
  PlanSummary summary{.arena_bytes = plan.arena_bytes,
                      .scratch_bytes = static_cast<std::int64_t>(plan.scratch_bytes),
                      .largest_live_bytes = plan.largest_live_bytes,
                      .kernels = static_cast<int>(plan.steps.size())};
  if (plan.device_plan) plan.device_plan->summarize(summary);
  return summary;
}

Steps Executor::steps() const {
  const auto& plan = impl_->plan;
  if (!plan->pieces) return Steps(plan);
  return Steps(std::make_shared<const Plan>(plan->program, plan->device, plan->threads, /*whole=*/true));
}

Session Executor::session() const { return Session(std::make_shared<Session::Impl>(impl_->plan)); }

void Executor::run(std::span<const Buffer> inputs, const Weights& weights, std::span<const bool> donate,
                   std::span<Buffer> outputs) const {
  if (impl_->has_state) {
    // A missing state lives with the weights, so that a loop of runs goes on where it was.
    const auto& specs = impl_->plan->model().inputs;
    for (std::size_t i = 0; i < inputs.size() && i < specs.size(); ++i) {
      if (!specs[i].state || inputs[i]) continue;
      default_session(impl_->plan, weights,
                      [&](Session::Impl& session) { session.run(inputs, weights, donate, outputs, false); });
      return;
    }
  }
  auto session = impl_->take();
  session->run(inputs, weights, donate, outputs, false);
  impl_->give_back(std::move(session));
}

std::vector<Buffer> Executor::run(std::span<const Buffer> inputs, const Weights& weights) const {
  std::vector<Buffer> outputs(program().outputs().size());
  run(inputs, weights, {}, outputs);
  return outputs;
}

void Executor::prepare(const Weights& weights, const Progress& progress) const {
  prepared_for(*impl_->plan, weights, progress);
}

}  // namespace npu

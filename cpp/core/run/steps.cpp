#include "npu/steps.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/text.h"
#include "core/geometry/nest.h"
#include "core/plan/plan.h"
#include "npu/error.h"

namespace npu {

namespace {

[[noreturn]] void refuse(const std::string& what, const std::string& got = {},
                         const std::string& expected = {}) {
  throw Error(ErrorKind::kInvalidValue, {.area = "steps", .what = what, .got = got, .expected = expected});
}

void copy_strided(const Nest& nest, int d, std::size_t size, std::byte* to, const std::byte* from) {
  const auto at = static_cast<std::size_t>(d);
  const auto step_of = [&](std::size_t operand) {
    return nest.strides[operand][at] * static_cast<std::int64_t>(size);
  };
  for (std::int64_t i = 0; i < nest.extent[at]; ++i, to += step_of(0), from += step_of(1)) {
    if (d + 1 < nest.rank) {
      copy_strided(nest, d + 1, size, to, from);
    } else {
      std::memcpy(to, from, size);
    }
  }
}

// The same tensor in another layout, in memory of the host.
Buffer laid_out(const Buffer& tensor, Layout from, Layout to) {
  const Buffer source = tensor.to_host();
  if (from == to) return source;
  Buffer copy = Buffer::allocate(source.dtype(), source.shape());
  const Nest nest =
      make_nest(source.shape(), {dense_strides(source.shape(), to), dense_strides(source.shape(), from)});
  if (nest.rows > 0)
    copy_strided(nest, 0, size_of(source.dtype()), static_cast<std::byte*>(copy.data()),
                 static_cast<const std::byte*>(source.data()));
  return copy;
}

PlannedStep described(const Step& step) {
  PlannedStep text{.kernel = step.kernel->name(), .ops = {}, .reads = {}, .writes = {}};
  for (auto op = step.fused.rbegin(); op != step.fused.rend(); ++op) text.ops.push_back((*op)->name);
  if (!step.made_for_layout) text.ops.push_back(step.op->name);
  for (const PlannedOperand& in : step.inputs) {
    if (in.value >= 0) text.reads.push_back(in.value);
  }
  for (const PlannedOperand& out : step.outputs) {
    if (out.value >= 0) text.writes.push_back(out.value);
  }
  return text;
}

// The memory of one call.
class StepMemory {
 public:
  StepMemory(const Plan& plan, const DeviceBackend& backend, const std::map<int, Buffer>& given)
      : plan_(plan), backend_(backend), given_(given), own_(plan.values.size()) {
    for (const auto& [value, tensor] : given) check(value, tensor);
  }

  void hold(const std::vector<Step>& all, std::span<const int> steps) {
    for (const int s : steps) {
      if (s < 0 || s >= static_cast<int>(all.size()))
        refuse("there is no such step", std::to_string(s), "from 0 to " + std::to_string(all.size() - 1));
      const Step& step = all[static_cast<std::size_t>(s)];
      for (std::size_t i = 0; i < step.inputs.size(); ++i) {
        if (step.inputs[i].value < 0) continue;
        if (step.packed >= 0 && step.kernel->packed_input() == static_cast<int>(i)) continue;
        const int v = step.inputs[i].value;
        if (!own(v) && given_.count(v) == 0)
          refuse("a tensor that a step reads is missing",
                 quoted(planned(v).value.name) + " of " + quoted(step.name()));
        allocate(v);
      }
      for (const PlannedOperand& out : step.outputs) {
        if (out.value >= 0) allocate(out.value);
      }
    }
  }

  Buffer& own(int value) { return own_[static_cast<std::size_t>(value)]; }

  std::vector<Address> addresses() const {
    std::vector<Address> all(own_.size());
    for (std::size_t v = 0; v < own_.size(); ++v) {
      if (own_[v]) all[v] = address_of(own_[v]);
    }
    return all;
  }

  Buffer packed(const Step& step) const {
    const PlannedOperand& operand = step.inputs[static_cast<std::size_t>(step.kernel->packed_input())];
    const auto raw = given_.find(operand.value);
    if (raw == given_.end())
      refuse("a tensor that a step reads is missing",
             quoted(planned(operand.value).value.name) + " of " + quoted(step.name()));
    const Buffer source = raw->second.to_host();
    const std::vector<std::int64_t> shape = {static_cast<std::int64_t>(step.kernel->packed_bytes())};
    Buffer packed =
        backend_.unified() ? backend_.allocate(DType::kUInt8, shape) : Buffer::allocate(DType::kUInt8, shape);
    step.kernel->pack(static_cast<const std::byte*>(source.data()) + operand.offset,
                      static_cast<std::byte*>(packed.data()), *plan_.pool);
    return backend_.reaches(packed) ? packed : backend_.adopt(packed);
  }

  std::vector<Buffer> results(std::span<const int> wanted) {
    std::vector<Buffer> all;
    for (const int value : wanted) {
      if (value < 0 || value >= static_cast<int>(own_.size()) || !own(value))
        refuse("the steps do not write this value", std::to_string(value));
      all.push_back(laid_out(own(value), planned(value).layout, Layout::kRowMajor));
    }
    return all;
  }

 private:
  const PlannedValue& planned(int value) const { return plan_.values[static_cast<std::size_t>(value)]; }

  void check(int value, const Buffer& tensor) const {
    if (value < 0 || value >= static_cast<int>(own_.size()))
      refuse("there is no such value", std::to_string(value));
    const Value& expected = planned(value).value;
    if (tensor && tensor.dtype() == expected.dtype && tensor.shape() == expected.shape) return;
    refuse("the tensor for " + quoted(expected.name) + " does not fit",
           tensor ? std::string(dtype_name(tensor.dtype())) + shape_text(tensor.shape()) : "nothing",
           std::string(dtype_name(expected.dtype)) + shape_text(expected.shape));
  }

  void allocate(int value) {
    if (own(value)) return;
    const PlannedValue& like = planned(value);
    Buffer& memory = own(value) = backend_.allocate(like.value.dtype, like.value.shape);
    const auto tensor = given_.find(value);
    if (tensor != given_.end()) {
      memory.copy_from(laid_out(tensor->second, Layout::kRowMajor, like.layout));
      return;
    }
    // What a kernel leaves out then shows: NaN in every floating-point dtype.
    const int unwritten = like.value.dtype == DType::kBool ? 0 : 0xff;
    const std::vector<std::byte> bytes(memory.bytes(), static_cast<std::byte>(unwritten));
    memory.write(bytes.data());
  }

  const Plan& plan_;
  const DeviceBackend& backend_;
  const std::map<int, Buffer>& given_;
  std::vector<Buffer> own_;  // by value
};

}  // namespace

struct Steps::Impl {
  explicit Impl(std::shared_ptr<const Plan> plan_)
      : plan(std::move(plan_)), runner(plan->device.backend().make_runner(*plan)) {
    for (const Step& step : plan->prepare) prepare.push_back(described(step));
    for (const Step& step : plan->steps) main.push_back(described(step));
  }

  std::shared_ptr<const Plan> plan;
  std::unique_ptr<Runner> runner;
  std::vector<PlannedStep> prepare, main;
};

Steps::Steps(std::shared_ptr<const Plan> plan) : impl_(std::make_shared<Impl>(std::move(plan))) {}

const std::vector<PlannedStep>& Steps::prepare() const { return impl_->prepare; }
const std::vector<PlannedStep>& Steps::main() const { return impl_->main; }

std::vector<Buffer> Steps::run(std::span<const int> steps, const std::map<int, Buffer>& given,
                               std::span<const int> wanted) {
  const Plan& plan = *impl_->plan;
  const DeviceBackend& backend = plan.device.backend();
  StepMemory memory(plan, backend, given);
  memory.hold(plan.steps, steps);
  const std::vector<Address> addresses = memory.addresses();
  std::vector<Address> packed(plan.packed.size());
  for (const int s : steps) {
    const Step& step = plan.steps[static_cast<std::size_t>(s)];
    const auto bytes = static_cast<std::int64_t>(step.kernel->scratch_bytes());
    const Buffer scratch = backend.allocate(DType::kUInt8, {bytes});
    Buffer form;
    if (step.packed >= 0) {
      form = memory.packed(step);
      packed[static_cast<std::size_t>(step.packed)] = address_of(form);
    }
    impl_->runner->run_step({addresses, packed, address_of(scratch)}, static_cast<std::size_t>(s));
  }
  return memory.results(wanted);
}

std::vector<Buffer> Steps::run_prepare(std::span<const int> steps, const std::map<int, Buffer>& given,
                                       std::span<const int> wanted) {
  const Plan& plan = *impl_->plan;
  StepMemory memory(plan, plan.device.backend().host(), given);
  memory.hold(plan.prepare, steps);
  const std::vector<Address> addresses = memory.addresses();
  for (const int s : steps) {
    const Step& step = plan.prepare[static_cast<std::size_t>(s)];
    const Buffer scratch =
        Buffer::allocate(DType::kUInt8, {static_cast<std::int64_t>(step.kernel->scratch_bytes())});
    std::vector<const void*> inputs;
    std::vector<void*> outputs;
    const auto at = [&](const PlannedOperand& operand) -> std::byte* {
      return operand.value < 0 ? nullptr
                               : addresses[static_cast<std::size_t>(operand.value)].data + operand.offset;
    };
    for (const PlannedOperand& in : step.inputs) inputs.push_back(at(in));
    for (const PlannedOperand& out : step.outputs) outputs.push_back(at(out));
    host_kernel(step).run({inputs.data(), outputs.data(), static_cast<std::byte*>(scratch.data()), nullptr},
                          *plan.pool);
  }
  return memory.results(wanted);
}

}  // namespace npu

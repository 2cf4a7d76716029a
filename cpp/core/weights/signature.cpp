#include "core/weights/signature.h"

#include <string>

#include "core/base/mixer.h"

namespace npu {

namespace {

void add(Mixer& mixer, const Signature& s) {
  mixer.number(s.high);
  mixer.number(s.low);
}

void add_view(Mixer& mixer, const Operand& operand) {
  mixer.numbers(operand.shape);
  mixer.numbers(operand.strides);
  mixer.number(static_cast<std::uint64_t>(operand.offset));
}

}  // namespace

Signatures::Signatures(const Plan& plan, std::span<const WeightTensor> sources)
    : plan_(plan),
      sources_(sources),
      producers_(plan.values.size()),
      known_(plan.values.size()),
      is_known_(plan.values.size(), false) {
  for (std::size_t s = 0; s < plan.prepare.size(); ++s) {
    for (const auto& out : plan.prepare[s].outputs) {
      if (out.value >= 0) producers_[static_cast<std::size_t>(out.value)].push_back(s);
    }
  }
}

Signature Signatures::of(std::size_t value) {
  if (!is_known_[value]) {
    known_[value] = producers_[value].empty() ? of_source(value) : of_prepared(value);
    is_known_[value] = true;
  }
  return known_[value];
}

Signature Signatures::of_source(std::size_t value) const {
  const WeightTensor& tensor = sources_[value];
  Mixer mixer;
  mixer.number(static_cast<std::uint64_t>(tensor.dtype()));
  mixer.numbers(tensor.shape());
  const bool by_content = plan_.values[value].space == Space::kConstant;
  mixer.number(by_content ? 1 : 0);
  if (by_content) {
    const Buffer content = tensor.get().to_host();
    mixer.bytes(content.data(), content.bytes());
  } else {
    mixer.number(reinterpret_cast<std::uintptr_t>(tensor.identity()));
  }
  return {mixer.high(), mixer.low()};
}

// Several steps may each write a part of a value.
Signature Signatures::of_prepared(std::size_t value) {
  Mixer mixer;
  mixer.number(static_cast<std::uint64_t>(plan_.values[value].value.dtype));
  mixer.numbers(plan_.values[value].value.shape);
  mixer.number(static_cast<std::uint64_t>(plan_.values[value].layout));
  for (const std::size_t s : producers_[value]) {
    const Op& op = *plan_.prepare[s].op;
    const std::string attributes = attributes_text(op);
    mixer.number(static_cast<std::uint64_t>(op.kind));
    mixer.bytes(attributes.data(), attributes.size());
    for (const Operand& in : op.inputs) {
      mixer.number(in.present() ? 1 : 0);
      if (!in.present()) continue;
      add(mixer, of(static_cast<std::size_t>(in.value)));
      add_view(mixer, in);
    }
    for (std::size_t i = 0; i < op.outputs.size(); ++i) {
      const Operand& out = op.outputs[i];
      mixer.number(out.present() && static_cast<std::size_t>(out.value) == value ? i + 1 : 0);
      if (!out.present()) continue;
      mixer.number(static_cast<std::uint64_t>(plan_.values[static_cast<std::size_t>(out.value)].value.dtype));
      add_view(mixer, out);
    }
  }
  return {mixer.high(), mixer.low()};
}

}  // namespace npu

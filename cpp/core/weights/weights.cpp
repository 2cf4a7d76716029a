#include "npu/weights.h"

#include <cmath>
#include <cstring>
#include <set>

#include "core/geometry/nest.h"
#include "core/run/session.h"
#include "core/weights/prepare.h"
#include "core/weights/safetensors.h"
#include "npu/error.h"

namespace npu {

std::uint64_t next_weights_version() {
  static std::atomic<std::uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

Weights::Weights() : state_(std::make_shared<State>()) {}

namespace {

void add_stored(Weights::State& state, const TensorFile& file) {
  for (const StoredTensor& tensor : file.tensors) {
    if (!tensor.dtype) {  // an error only when a program asks for it
      state.unusable.emplace(tensor.name, tensor.dtype_text);
      continue;
    }
    void* const data = const_cast<std::byte*>(tensor.data.data());
    Buffer buffer;
    if (reinterpret_cast<std::uintptr_t>(data) % size_of(*tensor.dtype) == 0) {
      buffer = Buffer::in(tensor.file, data, *tensor.dtype, tensor.shape);
    } else {
      buffer = Buffer::allocate(*tensor.dtype, tensor.shape);
      std::memcpy(buffer.data(), data, tensor.data.size());
    }
    state.tensors.emplace(tensor.name, std::move(buffer));
  }
}

}  // namespace

Weights Weights::load(const std::string& path) {
  const std::string index = ".safetensors.index.json";
  const bool sharded =
      path.size() > index.size() && path.compare(path.size() - index.size(), index.size(), index) == 0;
  Weights weights;
  add_stored(*weights.state_, sharded ? read_safetensors_index(path) : read_safetensors(path));
  return weights;
}

Weights Weights::load(const File& file) {
  Weights weights;
  add_stored(*weights.state_, parse_safetensors(file.bytes(), file.name(), file.memory()));
  return weights;
}

namespace {

void replace(Weights::State& state, const std::string& name, WeightTensor tensor) {
  const std::lock_guard lock(state.mutex);
  state.tensors[name] = std::move(tensor);
  state.prepared.clear();
  state.derived.clear();
  state.read_raw.clear();
  state.version.store(next_weights_version(), std::memory_order_release);
}

}  // namespace

void Weights::set(const std::string& name, Buffer tensor) { replace(*state_, name, std::move(tensor)); }

void Weights::defer(const std::string& name, DType dtype, std::vector<std::int64_t> shape, MakeTensor make) {
  replace(*state_, name, WeightTensor(name, dtype, std::move(shape), std::move(make)));
}

bool Weights::has(const std::string& name) const {
  const std::lock_guard lock(state_->mutex);
  return state_->tensors.count(name) != 0;
}

Buffer Weights::get(const std::string& name) const {
  const std::lock_guard lock(state_->mutex);
  const auto match = state_->tensors.find(name);
  return match == state_->tensors.end() ? Buffer() : match->second.get();
}

std::vector<std::string> Weights::names() const {
  const std::lock_guard lock(state_->mutex);
  std::vector<std::string> all;
  for (const auto& [name, tensor] : state_->tensors) all.push_back(name);
  return all;
}

std::map<std::string, Buffer> given_tensors(const Weights& weights) {
  const std::lock_guard lock(weights.state().mutex);
  std::map<std::string, Buffer> all;
  for (const auto& [name, tensor] : weights.state().tensors) {
    if (tensor.buffer()) all.emplace(name, tensor.buffer());
  }
  return all;
}

std::size_t Weights::prepared_bytes() const {
  const std::lock_guard lock(state_->mutex);
  std::set<const void*> counted;
  for (const auto& [name, tensor] : state_->tensors) counted.insert(tensor.buffer().data());
  std::size_t sum = 0;
  for (const auto& [key, buffer] : state_->derived) {
    if (buffer && counted.insert(buffer.data()).second) sum += buffer.bytes();
  }
  return sum;
}

void Weights::check(const Program& program) const { check_weights(program.model(), *this); }

namespace {

constexpr std::uint64_t kRandomStep = 0x9e3779b97f4a7c15u;  // of the state, for each number

std::uint64_t mix(std::uint64_t& state) {
  state += kRandomStep;
  std::uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

void fill_random(Buffer& tensor, bool positive, std::uint64_t& state) {
  const std::int64_t n = tensor.elements();
  // As initialisers do: the spread falls with the number of inputs of an output.
  const double fan =
      tensor.shape().size() > 1 ? static_cast<double>(n) / static_cast<double>(tensor.shape()[0]) : 4;
  const double spread = std::sqrt(3.0 / std::max(fan, 1.0));
  for (std::int64_t i = 0; i < n; ++i) {
    const double unit = static_cast<double>(mix(state) >> 11) * 0x1p-53;
    const float x = static_cast<float>(positive ? 0.5 + unit : (2 * unit - 1) * spread);
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    switch (tensor.dtype()) {
      case DType::kFloat32:
        static_cast<float*>(tensor.data())[i] = x;
        break;
      case DType::kBFloat16:
        static_cast<std::uint16_t*>(tensor.data())[i] = static_cast<std::uint16_t>(bits >> 16);
        break;
      case DType::kFloat16: {
        const std::uint32_t magnitude = bits & 0x7fffffffu;
        const std::uint32_t half = magnitude < 0x38800000u ? 0 : (magnitude - 0x38000000u) >> 13;
        static_cast<std::uint16_t*>(tensor.data())[i] =
            static_cast<std::uint16_t>((bits >> 16 & 0x8000u) | half);
        break;
      }
      default:
        break;  // integers and bools stay zero: they may be indices
    }
  }
}

}  // namespace

Weights Weights::random(const Program& program, std::uint64_t seed) { return random(program, seed, {}); }

Weights Weights::random(const Program& program, std::uint64_t seed, const std::string& only) {
  Weights weights;
  for (const TensorSpec& spec : program.weights()) {
    if (!only.empty() && spec.name != only) {
      seed += kRandomStep * static_cast<std::uint64_t>(product(spec.shape));
      continue;
    }
    Buffer tensor = Buffer::allocate(spec.dtype, spec.shape, true);
    const bool positive = spec.name.size() >= 3 && spec.name.find("var") != std::string::npos;
    fill_random(tensor, positive, seed);
    weights.state_->tensors.emplace(spec.name, std::move(tensor));
  }
  return weights;
}

void PlanUsers::add(std::weak_ptr<Weights::State> weights) {
  const std::lock_guard lock(mutex_);
  std::erase_if(weights_, [&](const auto& known) {
    return known.expired() || !(known.owner_before(weights) || weights.owner_before(known));
  });
  weights_.push_back(std::move(weights));
}

void PlanUsers::forget(std::uint64_t plan) {
  std::vector<std::weak_ptr<Weights::State>> all;
  {
    const std::lock_guard lock(mutex_);
    all = weights_;
  }
  for (const auto& user : all) {
    const auto weights = user.lock();
    if (!weights) continue;
    std::shared_ptr<DefaultSession> session;  // destroyed when the weights are no longer locked
    const std::lock_guard weights_lock(weights->mutex);
    weights->prepared.erase(plan);
    const auto match = weights->sessions.find(plan);
    if (match == weights->sessions.end()) continue;
    session = std::move(match->second);
    weights->sessions.erase(match);
  }
}

void default_session(const std::shared_ptr<const Plan>& plan, const Weights& weights,
                     const std::function<void(Session::Impl&)>& use) {
  Weights::State& state = weights.state();
  std::shared_ptr<DefaultSession> session;
  {
    const std::lock_guard lock(state.mutex);
    auto& slot = state.sessions[plan->id];
    if (!slot) {
      plan->users.add(state.weak_from_this());
      slot = std::make_shared<DefaultSession>();
      slot->session = std::make_shared<Session::Impl>(plan);
    }
    session = slot;
  }
  const std::lock_guard lock(session->mutex);
  use(*session->session);
}

}  // namespace npu

// Weights as one plan reads them.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "core/plan/plan.h"
#include "core/weights/signature.h"
#include "core/weights/weight_tensor.h"
#include "npu/buffer.h"
#include "npu/weights.h"

namespace npu {

class PreparedWeights {
 public:
  std::vector<Buffer>
      values;  // by value of the plan; empty where main reads only the packed form, or nothing
  std::vector<Buffer> packed;  // by Plan::packed
};

// Holds the state of programs that run without being given any; callers take turns.
struct DefaultSession {
  std::mutex mutex;
  std::shared_ptr<Session::Impl> session;
};

// Unique in the process: tells new weights from old ones at the same, freed address.
std::uint64_t next_weights_version();

struct Weights::State : std::enable_shared_from_this<State> {
  mutable std::mutex mutex;
  std::atomic<std::uint64_t> version{next_weights_version()};  // changes with every set()
  std::map<std::string, WeightTensor> tensors;
  std::map<std::string, std::string> unusable;  // the dtypes of those that no program can read
  std::map<std::uint64_t, std::shared_ptr<const PreparedWeights>> prepared;  // by plan
  // What plans made of tensors, once for all plans that make the same: by what it is made of, the kind of
  // device, and the form.
  std::map<std::tuple<Signature, std::string, std::string>, Buffer> derived;
  std::set<const void*> read_raw;  // identities of tensors that a plan reads where they lie
  std::map<std::uint64_t, std::shared_ptr<DefaultSession>> sessions;  // by plan
};

void default_session(const std::shared_ptr<const Plan>& plan, const Weights& weights,
                     const std::function<void(Session::Impl&)>& use);

// The tensors that were given, not those that are made when they are read.
std::map<std::string, Buffer> given_tensors(const Weights& weights);

// Throws Error when `program` could not run with these: names, shapes, dtypes.
void check_weights(const ProgramModel& program, const Weights& weights);

// From the cache of `weights`, else computed now.
std::shared_ptr<const PreparedWeights> prepared_for(const Plan& plan, const Weights& weights,
                                                    const Progress& progress);

}  // namespace npu

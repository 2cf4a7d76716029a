// The kernels that a driver has compiled, by what they were compiled from.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gpu/device/compile_progress.h"
#include "gpu/device/driver.h"
#include "gpu/device/in_parallel.h"

namespace npu::gpu {

class KnownPipelines {
 public:
  using Source = std::pair<std::string, std::string>;  // library and prologue

  // What is missing is compiled by several threads: first `load(source)` for each library, which keeps it,
  // then `make(key)` for each kernel.
  template <class Load, class Make>
  std::vector<std::shared_ptr<const Pipeline>> get(std::span<const PipelineKey> keys,
                                                   std::size_t most_threads, Load load, Make make) {
    std::vector<std::shared_ptr<const Pipeline>> result(keys.size());
    std::vector<std::size_t> missing;
    std::vector<Source> sources;
    {
      const std::lock_guard lock(mutex_);
      for (std::size_t i = 0; i < keys.size(); ++i) {
        const auto known = std::find_if(pipelines_.begin(), pipelines_.end(),
                                        [&](const auto& entry) { return entry.first == keys[i]; });
        if (known != pipelines_.end()) {
          result[i] = known->second;
          continue;
        }
        missing.push_back(i);
        const Source source{keys[i].library, keys[i].prologue};
        if (std::find(sources.begin(), sources.end(), source) == sources.end()) sources.push_back(source);
      }
    }
    in_parallel(sources.size(), most_threads, [&](std::size_t i) { load(sources[i]); });
    CompileProgress progress(missing.size());
    in_parallel(missing.size(), most_threads, [&](std::size_t i) {
      result[missing[i]] = make(keys[missing[i]]);
      progress.compiled_one();
    });
    const std::lock_guard lock(mutex_);
    for (const std::size_t i : missing) pipelines_.emplace_back(keys[i], result[i]);
    return result;
  }

 private:
  std::mutex mutex_;
  std::vector<std::pair<PipelineKey, std::shared_ptr<const Pipeline>>> pipelines_;
};

}  // namespace npu::gpu

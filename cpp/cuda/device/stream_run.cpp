#include "cuda/device/stream_run.h"

#include <vector>

#include "cuda/device/ranges.h"
#include "npu/error.h"

namespace npu::cuda {

namespace {

// For as long as it lives.
class Event {
 public:
  Event() { check(api().create_event(&event_, 0), "making an event"); }
  ~Event() { api().destroy_event(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  CuEvent get() const { return event_; }

 private:
  CuEvent event_ = nullptr;
};

bool skips(std::span<const bool> skipped, std::size_t launch) { return !skipped.empty() && skipped[launch]; }

Context& alive(Context& context) {
  context.check_alive();
  return context;
}

}  // namespace

StreamRun::StreamRun(Context& context) : context_(alive(context)), current_(context), stream_(context) {}

void StreamRun::launch(std::span<const Call> calls, std::span<const bool> skipped,
                       std::span<gpu::GpuTime> times, const std::string& label) {
  if (!times.empty()) return launch_timed(calls, skipped, times, label);
  for (std::size_t i = 0; i < calls.size(); ++i) {
    if (!skips(skipped, i)) launch_one(calls[i]);
  }
  finish(label);
}

void StreamRun::launch_one(const Call& call) {
  const NamedRange name(call.launch().label);
  const CuResult result = call.run(stream());
  if (result == kCuSuccess) return;
  context_.note(result, "launching " + call.launch().label + " failed");
  call.refuse(result);
}

void StreamRun::launch_graph(const Graph& graph) {
  context_.check_work(graph.launch(stream()), "launching a graph");
}

void StreamRun::finish(const std::string& label) {
  const CuResult result = api().synchronize(stream());
  if (result == kCuSuccess) return;
  const std::string what = "the GPU failed to run " + npu::quoted(label);
  context_.lose(what + ": " + describe(result));
  throw Error(ErrorKind::kInternal,
              {.area = "cuda",
               .what = what,
               .got = describe(result),
               .action = "CUDA_LAUNCH_BLOCKING=1 in the environment, which makes this name the kernel"});
}

void StreamRun::launch_timed(std::span<const Call> calls, std::span<const bool> skipped,
                             std::span<gpu::GpuTime> times, const std::string& label) {
  const std::vector<Event> events(calls.size() + 1);
  context_.check_work(api().record_event(events[0].get(), stream()), "recording an event");
  for (std::size_t i = 0; i < calls.size(); ++i) {
    if (!skips(skipped, i)) launch_one(calls[i]);
    context_.check_work(api().record_event(events[i + 1].get(), stream()), "recording an event");
  }
  finish(label);
  double now = 0;  // in nanoseconds
  for (std::size_t i = 0; i < calls.size(); ++i) {
    float milliseconds = 0;
    check(api().elapsed(&milliseconds, events[i].get(), events[i + 1].get()), "reading an event");
    const double end = now + static_cast<double>(milliseconds) * 1e6;
    times[i] = {static_cast<std::int64_t>(now), static_cast<std::int64_t>(end)};
    now = end;
  }
}

}  // namespace npu::cuda

// Streams do their work when somebody waits for them, so that who does not wait finds it undone. Clocks tell
// what must have happened before what.
#include <algorithm>

#include "cuda/stand_in/world.h"

namespace stand_in {

void join(Clock& into, const Clock& other) {
  if (into.size() < other.size()) into.resize(other.size());
  for (std::size_t i = 0; i < other.size(); ++i) into[i] = std::max(into[i], other[i]);
}

std::uint64_t tick_of(const Clock& clock, int stream) {
  const auto i = static_cast<std::size_t>(stream);
  return i < clock.size() ? clock[i] : 0;
}

namespace {

std::uint64_t advance(Stream& stream) {
  const auto i = static_cast<std::size_t>(stream.id);
  if (stream.clock.size() <= i) stream.clock.resize(i + 1);
  return ++stream.clock[i];
}

bool conflict(Use a, Use b) {
  if (a == Use::kUnknown && b == Use::kUnknown) return false;
  return a != Use::kRead || b != Use::kRead;
}

template <class T>
T* known(const std::vector<std::unique_ptr<T>>& all, void* handle) {
  for (const auto& one : all) {
    if (one.get() == handle) return one.get();
  }
  return nullptr;
}

template <class T>
void forget(std::vector<std::unique_ptr<T>>& all, T* object) {
  for (auto& one : all) {
    if (one.get() == object) one.reset();
  }
}

}  // namespace

Stream* World::create_stream(int gpu) {
  ++counters.streams;
  streams_.push_back(std::make_unique<Stream>());
  streams_.back()->id = static_cast<int>(streams_.size()) - 1;
  streams_.back()->gpu = gpu;
  return streams_.back().get();
}

Stream* World::stream(void* handle) { return handle == nullptr ? nullptr : known(streams_, handle); }

void World::destroy_stream(Stream* stream) {
  drain(stream->id, tick_of(stream->clock, stream->id));
  forget(streams_, stream);
}

Event* World::create_event() {
  ++counters.events;
  const auto unused = std::find(events_.begin(), events_.end(), nullptr);
  auto& event = unused == events_.end() ? events_.emplace_back() : *unused;
  event = std::make_unique<Event>();
  return event.get();
}

Event* World::event(void* handle) { return handle == nullptr ? nullptr : known(events_, handle); }
void World::destroy_event(Event* event) { forget(events_, event); }

void World::forget_done(Allocation& allocation) const {
  std::erase_if(allocation.accesses,
                [&](const Access& access) { return tick_of(host_clock, access.stream) >= access.tick; });
}

void World::judge(Allocation& allocation, const Touch& touch, const Stream& stream, const std::string& name) {
  const Address end = touch.address + touch.bytes;
  for (const Access& access : allocation.accesses) {
    if (access.end <= touch.address || end <= access.begin || !conflict(access.use, touch.use)) continue;
    if (tick_of(stream.clock, access.stream) >= access.tick) continue;
    find(name + " in stream " + std::to_string(stream.id) + " touches what stream " +
         std::to_string(access.stream) + " may still use: " + access.name);
    return;
  }
}

Result World::enqueue(Stream& stream, Operation operation) {
  for (const Touch& touch : operation.touches) {
    const Allocation* const allocation = check(operation.name, touch.address, touch.bytes);
    if (allocation == nullptr) return kInvalidValue;
    if (!allocation->host && allocation->gpu != operation.gpu && operation.launch) {
      find(operation.name + " on GPU " + std::to_string(operation.gpu) + " reaches memory of GPU " +
           std::to_string(allocation->gpu));
      return kInvalidValue;
    }
  }
  join(stream.clock, host_clock);
  const std::uint64_t tick = advance(stream);
  for (const Touch& touch : operation.touches) {
    Allocation& allocation = *containing(touch.address);
    forget_done(allocation);
    judge(allocation, touch, stream, operation.name);
    allocation.accesses.push_back({.begin = touch.address,
                                   .end = touch.address + touch.bytes,
                                   .stream = stream.id,
                                   .tick = tick,
                                   .use = touch.use,
                                   .name = operation.name});
  }
  stream.pending.push_back({.tick = tick, .work = std::move(operation.work), .launch = operation.launch});
  return kSuccess;
}

void World::record(Event& event, Stream& stream) {
  join(stream.clock, host_clock);
  event.recorded = true;
  event.stream = stream.id;
  event.tick = tick_of(stream.clock, stream.id);
  event.clock = stream.clock;
}

void World::wait(Stream& stream, const Event& event) {
  if (!event.recorded) return;
  join(stream.clock, event.clock);
  stream.pending.push_back({.tick = advance(stream), .waits_for = event.stream, .until = event.tick});
}

void World::drain(int id, std::uint64_t until) {
  Stream* const stream = streams_[static_cast<std::size_t>(id)].get();
  if (stream == nullptr) return;
  while (!stream->pending.empty() && stream->pending.front().tick <= until) {
    const Pending next = std::move(stream->pending.front());
    stream->pending.pop_front();
    if (next.waits_for >= 0) drain(next.waits_for, next.until);
    if (next.launch && ++launched_ == settings.fault_at_launch) lost = kIllegalAddress;
    if (next.work && lost == kSuccess) next.work();
  }
}

void World::drain_all() {
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    if (!streams_[i]) continue;
    drain(static_cast<int>(i), tick_of(streams_[i]->clock, static_cast<int>(i)));
    join(host_clock, streams_[i]->clock);
  }
}

Result World::synchronize(Stream& stream) {
  ++counters.synchronizes;
  drain(stream.id, tick_of(stream.clock, stream.id));
  join(host_clock, stream.clock);
  return static_cast<Result>(lost);
}

Result World::synchronize(Event& event) {
  ++counters.synchronizes;
  if (!event.recorded) return kSuccess;
  drain(event.stream, event.tick);
  join(host_clock, event.clock);
  return static_cast<Result>(lost);
}

}  // namespace stand_in

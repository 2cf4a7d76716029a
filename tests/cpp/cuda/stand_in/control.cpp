#include "cuda/stand_in/control.h"

#include <cstring>
#include <string>

#include "cuda/stand_in/world.h"

using stand_in::Counters;
using stand_in::World;

namespace {

struct Counter {
  const char* name;
  long Counters::* value;
};
constexpr Counter kCounters[] = {
    {"allocations", &Counters::allocations},
    {"host_allocations", &Counters::host_allocations},
    {"frees", &Counters::frees},
    {"launches", &Counters::launches},
    {"copies", &Counters::copies},
    {"fills", &Counters::fills},
    {"synchronizes", &Counters::synchronizes},
    {"streams", &Counters::streams},
    {"events", &Counters::events},
    {"modules", &Counters::modules},
    {"compilations", &Counters::compilations},
    {"graphs", &Counters::graphs},
    {"graph_updates", &Counters::graph_updates},
    {"graph_launches", &Counters::graph_launches},
    {"peak_bytes", &Counters::peak_bytes},
};

std::string said;  // the last answer

const char* say(std::string text) {
  said = std::move(text);
  return said.c_str();
}

}  // namespace

extern "C" {

const char* stand_in_findings() {
  World& world = World::get();
  const std::lock_guard lock(world.mutex);
  return say(world.findings);
}

void stand_in_clear() {
  World& world = World::get();
  const std::lock_guard lock(world.mutex);
  world.findings.clear();
  world.counters = {};
  world.lost = stand_in::kSuccess;
}

const char* stand_in_leaks() {
  World& world = World::get();
  const std::lock_guard lock(world.mutex);
  return say(world.leaks());
}

long stand_in_count(const char* name) {
  World& world = World::get();
  const std::lock_guard lock(world.mutex);
  const std::string wanted = name;
  if (wanted == "live") return static_cast<long>(world.live(false));
  if (wanted == "live_host") return static_cast<long>(world.live(true));
  if (wanted == "used") return static_cast<long>(world.used(0));
  for (const Counter& counter : kCounters) {
    if (wanted == counter.name) return world.counters.*counter.value;
  }
  return -1;
}

int stand_in_set(const char* name, const char* value) {
  World& world = World::get();
  const std::lock_guard lock(world.mutex);
  return world.set(name, value) ? 1 : 0;
}

int stand_in_peek(void* to, unsigned long long from, unsigned long bytes) {
  World& world = World::get();
  const std::lock_guard lock(world.mutex);
  const stand_in::Allocation* const allocation = world.containing(from);
  if (allocation == nullptr || bytes > allocation->end() - from) return 0;
  std::memcpy(to, world.bytes_at(from), bytes);
  return 1;
}

}  // extern "C"

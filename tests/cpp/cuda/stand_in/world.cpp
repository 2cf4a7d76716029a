#include "cuda/stand_in/world.h"

#include <cstdio>
#include <cstdlib>

namespace stand_in {

namespace {

constexpr const char* kPrefix = "NPU_STAND_IN_";

struct Setting {
  const char* name;
  const char* variable;
  long Settings::* value;
};
constexpr Setting kSettings[] = {
    {"gpus", "GPUS", &Settings::gpus},
    {"memory", "MEMORY", &Settings::memory},
    {"driver", "DRIVER", &Settings::driver},
    {"capability", "CAPABILITY", &Settings::capability},
    {"init", "INIT", &Settings::init},
    {"fault_at_launch", "FAULT_AT_LAUNCH", &Settings::fault_at_launch},
    {"refuse_launch", "REFUSE_LAUNCH", &Settings::refuse_launch},
    {"refuse_allocation", "REFUSE_ALLOCATION", &Settings::refuse_allocation},
    {"refuse_update", "REFUSE_UPDATE", &Settings::refuse_update},
    {"compile_ms", "COMPILE_MS", &Settings::compile_ms},
};

const char* environment(const std::string& name) { return std::getenv((kPrefix + name).c_str()); }

}  // namespace

// Never destroyed: memory may be freed while the process ends.
World& World::get() {
  static World* const world = new World;
  return *world;
}

World::World() {
  for (const Setting& setting : kSettings) {
    if (const char* const value = environment(setting.variable))
      settings.*setting.value = std::strtol(value, nullptr, 10);
  }
  const char* const blocking = std::getenv("CUDA_LAUNCH_BLOCKING");
  settings.blocking = blocking != nullptr && std::string(blocking) == "1";
  if (const char* const value = environment("REFUSE_KERNEL")) settings.refuse_kernel = value;
}

bool World::set(const std::string& name, const std::string& value) {
  if (name == "refuse_kernel") {
    settings.refuse_kernel = value;
    return true;
  }
  if (name == "lost") {
    lost = static_cast<int>(std::strtol(value.c_str(), nullptr, 10));
    return true;
  }
  for (const Setting& setting : kSettings) {
    if (name != setting.name) continue;
    settings.*setting.value = std::strtol(value.c_str(), nullptr, 10);
    if (name == "fault_at_launch") launched_ = 0;
    if (name == "refuse_allocation") asked_ = 0;
    if (name == "refuse_launch") tried_ = 0;
    return true;
  }
  return false;
}

void World::find(const std::string& text) {
  findings += text + "\n";
  std::fprintf(stderr, "stand-in: %s\n", text.c_str());
}

// A refusal, if this launch is the one that is to be refused.
Result try_launch(World& world) {
  return ++world.tried_ == world.settings.refuse_launch ? kLaunchOutOfResources : kSuccess;
}

}  // namespace stand_in

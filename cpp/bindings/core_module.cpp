#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <string>

#include "bindings/errors.h"
#include "bindings/tensors.h"
#include "core/base/interrupt.h"
#include "npu/npu.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace npu::bindings {

namespace {

void bind_build_info(nb::module_& m) {
  nb::class_<BuildInfo>(m, "BuildInfo", "How the extension was built.")
      .def_ro("version", &BuildInfo::version)
      .def_ro("git_describe", &BuildInfo::git_describe, "Empty when not built from a git checkout.")
      .def_ro("compiler", &BuildInfo::compiler)
      .def_ro("flags", &BuildInfo::flags)
      .def_ro("build_type", &BuildInfo::build_type)
      .def_ro("system", &BuildInfo::system)
      .def_ro("architecture", &BuildInfo::architecture)
      .def_ro("metal", &BuildInfo::metal, "Whether the Metal driver is part of this build.")
      .def("__repr__", [](const BuildInfo& b) {
        return "BuildInfo(version='" + b.version + "', build_type='" + b.build_type + "', system='" +
               b.system + "', architecture='" + b.architecture + "')";
      });
  m.def("build_info", &build_info, nb::rv_policy::reference, "How this extension was built.");
}

void bind_cpu_info(nb::module_& m) {
  nb::class_<CpuInfo>(m, "CpuInfo", "What the processor can do, and how much of it this process may use.")
      .def_ro("brand", &CpuInfo::brand)
      .def_ro("architecture", &CpuInfo::architecture)
      .def_prop_ro(
          "features",
          [](const CpuInfo& c) {
            std::map<std::string, bool> all;
            for (const auto& feature : c.features) all[feature.name] = feature.available;
            return all;
          },
          "Every known instruction set extension and whether it can be used.")
      .def_ro("logical_cores", &CpuInfo::logical_cores, "Of the machine.")
      .def_ro("physical_cores", &CpuInfo::physical_cores, "Of the machine.")
      .def_ro("affinity_logical_cores", &CpuInfo::affinity_logical_cores,
              "Those this process may be scheduled on.")
      .def_ro("affinity_physical_cores", &CpuInfo::affinity_physical_cores,
              "Those this process may be scheduled on.")
      .def_ro("cpu_quota", &CpuInfo::cpu_quota, "Cores' worth of time from the cgroup; 0 when unlimited.")
      .def_ro("usable_cores", &CpuInfo::usable_cores, "Physical cores within affinity and quota, at least 1.")
      .def_ro("memory_bytes", &CpuInfo::memory_bytes, "Of the machine.")
      .def_ro("memory_limit_bytes", &CpuInfo::memory_limit_bytes, "From the cgroup; 0 when unlimited.")
      .def("__repr__", [](const CpuInfo& c) {
        return "CpuInfo(brand='" + c.brand + "', architecture='" + c.architecture +
               "', usable_cores=" + std::to_string(c.usable_cores) + ")";
      });
  m.def("cpu_info", &query_cpu_info, "Measured at the time of the call.");
}

void bind_device_info(nb::module_& m) {
  nb::class_<DeviceInfo>(m, "DeviceInfo", "One kind of device, present or not.")
      .def_ro("kind", &DeviceInfo::kind, "'cpu', 'metal', 'cuda', 'cuda:1', ...")
      .def_ro("available", &DeviceInfo::available)
      .def_ro("name", &DeviceInfo::name, "The product's name; empty when not available.")
      .def_ro("reason", &DeviceInfo::reason, "Why it is not available; empty when it is.")
      .def_ro("driver", &DeviceInfo::driver, "Its version; empty where it is part of the system.")
      .def_ro("cores", &DeviceInfo::cores, "Those that may be used.")
      .def_ro("memory_bytes", &DeviceInfo::memory_bytes)
      .def_ro("features", &DeviceInfo::features)
      .def("__repr__", [](const DeviceInfo& d) {
        return d.available ? "DeviceInfo(kind='" + d.kind + "', name='" + d.name + "')"
                           : "DeviceInfo(kind='" + d.kind + "', available=False, reason='" + d.reason + "')";
      });
  m.def("set_library_folders", &set_library_folders, "folders"_a,
        "Where libraries of devices may be beside the system's own folders, as pip installs them.");
  m.def("devices", &query_devices, "One entry per kind of device; one that is missing says why.");
}

// Long work then ends with KeyboardInterrupt after Ctrl-C, in the main thread.
void raise_on_signals() {
  const nb::gil_scoped_acquire acquire;
  if (PyErr_CheckSignals() != 0) nb::raise_python_error();
}

void bind_limits(nb::module_& m) {
  nb::class_<MachineLimits>(m, "MachineLimits", "What this machine can do at most.")
      .def_ro("threads", &MachineLimits::threads)
      .def_ro("fma_gflops", &MachineLimits::fma_gflops, "float32 multiply-adds in registers.")
      .def_ro("read_gbytes", &MachineLimits::read_gbytes, "Per second, from memory that no cache holds.");
  m.def("measure_fma_gflops", &measure_fma_gflops, "threads"_a = 0, nb::call_guard<nb::gil_scoped_release>(),
        "The first figure alone, in a few milliseconds.");
  m.def("measure_limits", &measure_limits, "threads"_a = 0, nb::call_guard<nb::gil_scoped_release>(),
        "Measures them now, in about half a second.");
}

}  // namespace

}  // namespace npu::bindings

NB_MODULE(_core, m) {
  m.doc() = "The compiled core of NPU Simulation.";
  nb::set_leak_warnings(false);  // an interpreter that ends leaves objects behind, which is no news for users
  npu::bindings::register_errors();
  npu::set_interrupt_check(npu::bindings::raise_on_signals);
  npu::bindings::bind_build_info(m);
  npu::bindings::bind_cpu_info(m);
  npu::bindings::bind_device_info(m);
  npu::bindings::bind_limits(m);
  npu::bindings::bind_programs(m);
  npu::bindings::bind_steps(m);
  npu::bindings::bind_execution(m);
  npu::bindings::bind_tensors(m);
  npu::bindings::bind_tensor_calls(m);
  npu::bindings::bind_graph(m);
  m.attr("MAX_THREADS") = npu::kMaxThreads;
  m.def("get_num_threads", &npu::num_threads, "How many threads the library uses.");
  m.def("set_num_threads", &npu::set_num_threads, "count"_a, "Set how many threads the library uses.");
  npu::bindings::explain_arguments(m);
}

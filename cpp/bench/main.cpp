// npu-bench: how long a compiled program takes, through the public C++ API alone.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "npu/npu.h"
#include "options.h"
#include "whole_file.h"

namespace npu::bench {

namespace {

using Clock = std::chrono::steady_clock;
double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

struct Figures {
  double load_ms = 0, prepare_ms = 0, first_ms = 0;
  std::vector<double> runs_ms;  // sorted
  double median() const { return runs_ms[runs_ms.size() / 2]; }
  double mean() const {
    double sum = 0;
    for (const double ms : runs_ms) sum += ms;
    return sum / static_cast<double>(runs_ms.size());
  }
};

Buffer random_input(const TensorSpec& spec, std::mt19937_64& random) {
  Buffer buffer = Buffer::allocate(spec.dtype, spec.shape, true);
  if (spec.dtype != DType::kFloat32) return buffer;  // zeros: integers may be indices
  std::normal_distribution<float> normal;
  for (std::int64_t i = 0; i < buffer.elements(); ++i) static_cast<float*>(buffer.data())[i] = normal(random);
  return buffer;
}

void print_profile(const std::vector<KernelTime>& times) {
  std::vector<const KernelTime*> order;
  double total = 0;
  for (const KernelTime& time : times) {
    order.push_back(&time);
    total += static_cast<double>(time.nanoseconds);
  }
  std::stable_sort(order.begin(), order.end(),
                   [](auto* a, auto* b) { return a->nanoseconds > b->nanoseconds; });
  std::printf("\n%-36s %-28s %6s %10s %10s %7s %9s %8s\n", "op", "kernel", "calls", "total ms", "avg us",
              "share", "GFLOP/s", "GB/s");
  for (const KernelTime* t : order) {
    const double ns = static_cast<double>(std::max<std::int64_t>(t->nanoseconds, 1)),
                 calls = static_cast<double>(t->calls);
    std::printf("%-36.36s %-28.28s %6lld %10.3f %10.2f %6.1f%% %9.1f %8.1f\n", t->op.c_str(),
                t->kernel.c_str(), static_cast<long long>(t->calls), ns / 1e6, ns / 1e3 / calls,
                100 * ns / total, t->flops * calls / ns, t->bytes * calls / ns);
  }
}

std::string json_text(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    char buffer[8];
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      std::snprintf(buffer, sizeof buffer, "\\u%04x", c);
      out += buffer;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string json_of(const Executor& executor, const Figures& figures, const std::vector<KernelTime>& times) {
  const BuildInfo& build = build_info();
  const CpuInfo cpu = query_cpu_info();
  const PlanSummary plan = executor.summary();
  std::string s = "{\n  \"program\": " + json_text(executor.program().model_name());
  s += ",\n  \"device\": " + json_text(executor.device().name()) +
       ",\n  \"threads\": " + std::to_string(executor.threads());
  s += ",\n  \"machine\": {\"cpu\": " + json_text(cpu.brand) +
       ", \"usable_cores\": " + std::to_string(cpu.usable_cores) +
       ", \"system\": " + json_text(build.system) + ", \"architecture\": " + json_text(build.architecture) +
       "}";
  s += ",\n  \"build\": {\"version\": " + json_text(build.version) +
       ", \"commit\": " + json_text(build.git_describe) + ", \"compiler\": " + json_text(build.compiler) +
       ", \"type\": " + json_text(build.build_type) + "}";
  s += ",\n  \"arena_bytes\": " + std::to_string(plan.arena_bytes) +
       ",\n  \"kernels\": " + std::to_string(plan.kernels);
  s += ",\n  \"load_ms\": " + std::to_string(figures.load_ms) +
       ",\n  \"prepare_ms\": " + std::to_string(figures.prepare_ms);
  s += ",\n  \"first_run_ms\": " + std::to_string(figures.first_ms) +
       ",\n  \"median_ms\": " + std::to_string(figures.median());
  s += ",\n  \"runs_ms\": [";
  for (std::size_t i = 0; i < figures.runs_ms.size(); ++i)
    s += (i ? ", " : "") + std::to_string(figures.runs_ms[i]);
  s += "]";
  if (!times.empty()) {
    s += ",\n  \"profile\": [";
    for (std::size_t i = 0; i < times.size(); ++i) {
      s += std::string(i ? "," : "") + "\n    {\"op\": " + json_text(times[i].op) +
           ", \"kernel\": " + json_text(times[i].kernel) + ", \"calls\": " + std::to_string(times[i].calls) +
           ", \"ns\": " + std::to_string(times[i].nanoseconds) +
           ", \"flops\": " + std::to_string(times[i].flops) +
           ", \"bytes\": " + std::to_string(times[i].bytes) + "}";
    }
    s += "\n  ]";
  }
  return s + "\n}\n";
}

Figures measure(const Executor& executor, const Weights& weights, const Options& options, Session& session,
                const std::vector<Buffer>& inputs) {
  Figures figures;
  std::vector<Buffer> outputs(executor.program().outputs().size());
  auto start = Clock::now();
  executor.prepare(weights);
  figures.prepare_ms = ms_since(start);
  start = Clock::now();
  session.run(inputs, weights, {}, outputs);
  figures.first_ms = ms_since(start);
  session.settle();
  for (int i = 0; i < options.warmup; ++i) session.run(inputs, weights, {}, outputs);
  for (int i = 0; i < options.runs; ++i) {
    start = Clock::now();
    session.run(inputs, weights, {}, outputs);
    figures.runs_ms.push_back(ms_since(start));
  }
  std::sort(figures.runs_ms.begin(), figures.runs_ms.end());
  if (options.profile) {
    for (int i = 0; i < options.runs; ++i) session.run(inputs, weights, {}, outputs, true);
  }
  return figures;
}

int run(const Options& options) {
  auto start = Clock::now();
  const Program program = Program::load(options.program);
  if (options.text) {
    std::cout << program.text();
    return 0;
  }
  const Executor executor(program, Device::open(options.device), {options.threads});
  if (options.plan) {
    std::cout << executor.plan();
    return 0;
  }
  const Weights weights =
      options.weights.empty() ? Weights::random(program, options.seed) : Weights::load(options.weights);
  const double load_ms = ms_since(start);
  std::mt19937_64 random(options.seed + 1);
  std::vector<Buffer> inputs;
  for (const TensorSpec& spec : program.inputs()) inputs.push_back(random_input(spec, random));
  Session session = executor.session();
  Figures figures = measure(executor, weights, options, session, inputs);
  figures.load_ms = load_ms;
  const std::string json = json_of(executor, figures, session.times());
  if (options.json == "-") {
    std::cout << json;
    return 0;
  }
  std::printf("%s on %s, %d threads%s\n", program.model_name().c_str(), executor.device().name().c_str(),
              executor.threads(), options.weights.empty() ? ", random weights" : "");
  std::printf("%12s %12s %12s %12s %12s %12s %12s\n", "load ms", "prepare ms", "first ms", "min ms",
              "median ms", "mean ms", "max ms");
  std::printf("%12.2f %12.2f %12.3f %12.3f %12.3f %12.3f %12.3f\n", figures.load_ms, figures.prepare_ms,
              figures.first_ms, figures.runs_ms.front(), figures.median(), figures.mean(),
              figures.runs_ms.back());
  if (options.profile) print_profile(session.times());
  if (!options.json.empty()) write_whole_file(options.json, json);
  return 0;
}

}  // namespace

}  // namespace npu::bench

int main(int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file that grows beyond the limit is an error like any other
  try {
    const auto options = npu::bench::parse_options(argc, argv);
    if (options.help) {
      std::cout << npu::bench::usage();
      return 0;
    }
    if (options.version) {
      std::cout << "npu-bench " << npu::build_info().version << "\n";
      return 0;
    }
    const int status = npu::bench::run(options);
    if (std::fflush(stdout) != 0 || !std::cout.flush()) {
      std::cerr << "Error: [npu-bench] cannot write the output: " << std::strerror(errno) << "\n";
      return 1;
    }
    return status;
  } catch (const std::exception& error) {
    std::cerr << "Error: " << error.what() << "\n";
    return 1;
  }
}

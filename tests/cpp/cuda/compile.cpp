// npu-cuda-compile: compiles kernels with NVRTC, without a GPU, and says what they need. See usage().
//
// A line for each kernel: architecture, source, kernel, threads, then registers, bytes of stack, of spill
// stores, of spill loads and of shared memory; or `failed` and the compiler's first error.
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>

#include "core/plan/plan.h"
#include "cpu/cpu_device.h"
#include "cuda/device/chips.h"
#include "cuda/lower/entry.h"
#include "cuda/lower/library.h"
#include "cuda/nvrtc.h"
#include "cuda/resources.h"
#include "gpu/device/gpu_device.h"
#include "gpu/device/gpu_runner.h"
#include "gpu/device/paper_driver.h"
#include "metal/constants.h"
#include "npu/error.h"
#include "npu/program.h"

namespace {

using namespace npu;

// Stands for the GPUs that programs are planned for; only the cores matter for what is launched.
constexpr gpu::Chip kChip = *gpu::find_chip(cuda::kChips, "h200");
// Kernels of one program text, beyond which compilers have more to do at a time than other threads wait for.
constexpr std::size_t kTogether = 12;

struct Options {
  std::vector<std::string> sites, architectures, programs, libraries;
  int threads = 1, newest = 0;
  bool sample = false;    // the first instance of every template
  bool line = false;      // grids are lines
  bool constant = false;  // arguments and threads of launches are constants of the code
};

[[noreturn]] void usage() {
  std::cerr
      << "usage: npu-cuda-compile [--site FOLDER]... --arch sm_90... [--threads N] [--newest MAJOR] "
         "[--sample] [--line] "
         "[--constant]\n"
         "                        [--library all|NAME]... [PROGRAM.npubin]... [@LIST]... [SOURCE.metal]...\n"
         "  --site     a site-packages folder where the wheel nvidia-cuda-nvrtc may be\n"
         "  --library  built-in kernels, with all function constants zero; --sample: one of each template\n"
         "  --line     grids are launched along x alone; --constant: arguments and threads are constants of "
         "the code\n"
         "  PROGRAM    all kernels that its plan for a large GPU launches; @LIST names a file of programs\n"
         "  SOURCE     all kernels of a text that is complete in itself\n";
  std::exit(2);
}

Options read_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&] { return ++i < argc ? std::string(argv[i]) : (usage(), std::string()); };
    if (word == "--site") {
      options.sites.push_back(value());
    } else if (word == "--arch") {
      options.architectures.push_back(value());
    } else if (word == "--threads") {
      options.threads = std::max(1, std::atoi(value().c_str()));
    } else if (word == "--newest") {
      options.newest = std::atoi(value().c_str());
    } else if (word == "--library") {
      options.libraries.push_back(value());
    } else if (word == "--sample") {
      options.sample = true;
    } else if (word == "--line") {
      options.line = true;
    } else if (word == "--constant") {
      options.constant = true;
    } else if (word.starts_with("@")) {
      std::ifstream list(word.substr(1));
      if (!list) usage();
      for (std::string path; std::getline(list, path);) options.programs.push_back(path);
    } else if (word.starts_with("--")) {
      usage();
    } else {
      options.programs.push_back(word);
    }
  }
  if (options.architectures.empty()) usage();
  return options;
}

// Threads of a block of a built-in kernel, where no launch says it.
int most_threads(const std::string& kernel) {
  const auto is = [&](std::string_view part) { return kernel.find(part) != std::string::npos; };
  if (is("_large_")) return gpu::kLargeBlockThreads;
  if (is("attention_tensor")) return gpu::kTensorQueries / 16 * static_cast<int>(gpu::kSimd);
  if (is("groups_256x128")) return 512;
  if (is("attention_256_float")) return gpu::kWideTileSimdgroups * static_cast<int>(gpu::kSimd);
  for (const int width : gpu::kAttentionTiles) {
    if (is("attention_" + std::to_string(width) + "_"))
      return gpu::kTileSimdgroups * static_cast<int>(gpu::kSimd);
  }
  return 256;
}

// An entry.
struct Wanted {
  const cuda::LoweredKernel* kernel = nullptr;
  int threads = 0;  // of a block, at most
  // Constants of the code, where they are asked for.
  std::array<std::uint32_t, 3> size{};
  std::vector<std::byte> args;
  bool operator==(const Wanted&) const = default;
};

struct Job {
  std::shared_ptr<const cuda::Lowered> library;
  std::vector<cuda::ConstantBits> constants;
  std::string architecture;
  std::vector<Wanted> entries;
};

class Jobs {
 public:
  explicit Jobs(const Options& options) : options_(options) {}

  void add_library(const std::string& name) { add_kernels(cuda::lowered_library(name)); }

  void add_source(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string text(std::istreambuf_iterator<char>(file), {});
    if (!file) throw Error(ErrorKind::kInvalidValue, {.area = "cuda", .what = "cannot read " + path});
    add_kernels(cuda::lowered_library("", text));
  }

  void add_kernels(cuda::Lowered lowered) {
    const auto library = std::make_shared<const cuda::Lowered>(std::move(lowered));
    std::vector<cuda::ConstantBits> zeros;
    for (const cuda::LoweredConstant& constant : library->constants) zeros.push_back({constant.number, 0});
    std::string last;
    for (const cuda::LoweredKernel& kernel : library->kernels) {
      const std::string stem = kernel.call.substr(0, kernel.call.find('<'));
      if (options_.sample && stem == last) continue;
      last = stem;
      add(library, zeros, {&kernel, most_threads(kernel.name), {}, {}});
    }
  }

  void add_program(const std::string& path) {
    const Device device(gpu::make_device("metal", gpu::open_paper(cuda::caps_of(kChip)), cpu::open_device()));
    const Plan plan(Program::load(path), device, 1);
    const gpu::Schedule& schedule = static_cast<const gpu::GpuPlan&>(*plan.device_plan).schedule;
    for (const gpu::Launch& launch : schedule.launches)
      add_launch(*launch.dispatch, schedule.pipelines[static_cast<std::size_t>(launch.pipeline)]);
  }

  std::vector<Job> take() { return std::move(jobs_); }

 private:
  void add_launch(const gpu::Dispatch& dispatch, const gpu::PipelineKey& key) {
    auto& library = libraries_[{key.library, key.prologue}];
    if (library == nullptr)
      library = std::make_shared<const cuda::Lowered>(cuda::lowered_library(key.library, key.prologue));
    Wanted wanted{library->find(key.function), key.threads, {}, {}};
    if (wanted.kernel == nullptr)
      throw Error(ErrorKind::kInternal,
                  {.area = "cuda", .what = library->name + " has no kernel " + key.function});
    if (options_.constant) {
      wanted.size = dispatch.threads;
      wanted.args = dispatch.args;
    }
    std::vector<cuda::ConstantBits> constants;
    for (const gpu::FunctionConstant& constant : key.constants)
      constants.push_back({constant.index, constant.bits});
    add(library, constants, wanted);
  }

  void add(const std::shared_ptr<const cuda::Lowered>& library,
           const std::vector<cuda::ConstantBits>& constants, const Wanted& wanted) {
    for (const std::string& architecture : options_.architectures) {
      Job* job = nullptr;
      bool known = false;
      for (Job& other : jobs_) {
        if (other.library != library || other.architecture != architecture ||
            !same(other.constants, constants))
          continue;
        known = known || std::find(other.entries.begin(), other.entries.end(), wanted) != other.entries.end();
        const bool has = std::any_of(other.entries.begin(), other.entries.end(),
                                     [&](const Wanted& entry) { return entry.kernel == wanted.kernel; });
        if (!has && other.entries.size() < kTogether) job = &other;
      }
      if (known) continue;
      if (job == nullptr) job = &jobs_.emplace_back(Job{library, constants, architecture, {}});
      job->entries.push_back(wanted);
    }
  }

  static bool same(const std::vector<cuda::ConstantBits>& a, const std::vector<cuda::ConstantBits>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](const auto& x, const auto& y) { return x.number == y.number && x.bits == y.bits; });
  }

  const Options& options_;
  std::vector<Job> jobs_;
  std::map<std::pair<std::string, std::string>, std::shared_ptr<const cuda::Lowered>> libraries_;
};

std::string first_error(const std::string& log) {
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    if (line.find("error") != std::string::npos) return line;
  }
  return "the compiler says nothing";
}

// The lines of a job.
std::string run(const Job& job, const cuda::Nvrtc& nvrtc, bool line) {
  std::vector<std::string> entries;
  for (const Wanted& wanted : job.entries) {
    cuda::EntryOptions options;
    options.most_threads = wanted.threads;
    options.threads = wanted.size;
    options.constant_args = wanted.args;
    options.as_line = line;
    entries.push_back(cuda::entry_text(*wanted.kernel, options));
  }
  std::vector<std::string> arguments = cuda::compile_options(job.architecture);
  arguments.push_back("--ptxas-options=-v");
  const auto result =
      nvrtc.compile(cuda::program_text(*job.library, job.constants, entries), job.library->name, arguments);
  auto resources = test::resources_of(result.log);
  std::ostringstream text;
  for (const Wanted& wanted : job.entries) {
    const test::KernelResources& of = resources[cuda::entry_name(*wanted.kernel)];
    text << job.architecture << '\t' << job.library->name << '\t' << wanted.kernel->name << '\t'
         << wanted.threads << '\t';
    if (!result.compiled) {
      text << "failed\t" << first_error(result.log) << '\n';
    } else if (!of.known()) {
      text << "failed\tptxas does not say what it needs\n";
    } else {
      text << of.registers << '\t' << of.stack << '\t' << of.spill_stores << '\t' << of.spill_loads << '\t'
           << of.shared << '\n';
    }
  }
  return text.str();
}

int compile(const Options& options) {
  const auto nvrtc = cuda::Nvrtc::open(options.sites, options.newest);
  for (const std::string& architecture : options.architectures) {
    if (nvrtc->supports(architecture)) continue;
    std::cerr << nvrtc->path() << " does not compile for " << architecture << "\n";
    return 1;
  }
  Jobs collected(options);
  for (const std::string& name : options.libraries) {
    if (name != "all") collected.add_library(name);
    for (const auto* one = cuda::kLibraries; name == "all" && !one->name.empty(); ++one)
      collected.add_library(std::string(one->name));
  }
  for (const std::string& path : options.programs) {
    if (path.ends_with(".metal"))
      collected.add_source(path);
    else
      collected.add_program(path);
  }
  const std::vector<Job> jobs = collected.take();
  std::atomic<std::size_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  const auto work = [&] {
    for (std::size_t i; (i = next++) < jobs.size();) {
      const std::string lines = run(jobs[i], *nvrtc, options.line);
      if (lines.find("\tfailed\t") != std::string::npos) failed = true;
      const std::lock_guard lock(mutex);
      std::cout << lines << std::flush;
    }
  };
  std::vector<std::thread> pool;
  for (int i = 1; i < options.threads; ++i) pool.emplace_back(work);
  work();
  for (std::thread& thread : pool) thread.join();
  return failed ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return compile(read_options(argc, argv));
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}

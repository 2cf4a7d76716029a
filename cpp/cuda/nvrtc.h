// NVRTC, NVIDIA's compiler as a library: found when it is first needed, as nothing of CUDA is there at build
// time.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace npu::cuda {

class Nvrtc {
 public:
  // Looks at NPU_NVRTC (a path), at the wheel nvidia-cuda-nvrtc in `site_packages`, at toolkits (CUDA_HOME,
  // CUDA_PATH, /usr/local/cuda), and where the system has its libraries. Throws an Error that says what was
  // tried.
  // `newest` is the major version of CUDA that the driver has, whose kernels it can load; 0: any.
  static std::shared_ptr<const Nvrtc> open(std::span<const std::string> site_packages, int newest = 0);

  const std::string& path() const { return path_; }  // as it was loaded
  int major() const { return major_; }
  int minor() const { return minor_; }
  // Whether it compiles for an architecture: "sm_90".
  bool supports(const std::string& architecture) const;

  struct Result {
    bool compiled = false;
    std::string log;    // of the compiler, also of one that succeeds
    std::string cubin;  // for the architecture of the options
  };
  // `name` is what messages call the text.
  Result compile(const std::string& text, const std::string& name,
                 std::span<const std::string> options) const;

 private:
  struct Api;
  Nvrtc(std::string path, std::shared_ptr<const Api> api);

  std::string path_;
  std::shared_ptr<const Api> api_;
  int major_ = 0, minor_ = 0;
};

}  // namespace npu::cuda

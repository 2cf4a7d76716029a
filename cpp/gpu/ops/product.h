// What matmul and conv share: where their rows lie, and what happens to the sums before they are stored.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "gpu/ops/launch.h"
#include "gpu/ops/ops.h"

namespace npu::gpu {

// An epilogue as kernels get it: by function constants where it is a usual one (see metal/epilogue.h), else
// by a generated text.
struct Epilogue {
  std::vector<int> extras;  // inputs of the op that it reads
  std::string prologue;     // empty unless the epilogue is generated
  Activation first = Activation::kNone, last = Activation::kNone;
  Combination combine = Combination::kAlone;
  float low = 0, high = 0;  // of Activation::kClip
  bool gated = false;       // one result is computed from two sums
};

// Of an op with the inputs of a product: two factors, a bias, extras. Nothing when kernels cannot do it on
// the way: it is a map of its own then.
std::optional<Epilogue> make_epilogue(const Request& request, const Expr& expr, bool gated = false);

// What metal/epilogue.h is told where sums go to the scratch as they are; bias and extras are not read.
void no_epilogue(Dispatch& launch, bool gated = false);

class Product {
 public:
  // `dims` are the dimensions of the result that count rows; dimension `column` counts its columns. The
  // factors' strides along `dims` are given where kernels walk them so (matmul), with 0 where they stay.
  Product(const Request& request, const Epilogue& epilogue, const std::vector<int>& dims, int column,
          const Shape& left = {}, const Shape& right = {});

  const ProductArgs& args() const { return args_; }
  std::int64_t rows() const { return args_.rows.extent[args_.rows.rank - 1]; }
  std::int64_t blocks() const { return args_.rows.rows; }  // of rows

  // Binds what metal/epilogue.h asks for, and sets its function constants.
  void finish(Dispatch& launch) const;

 private:
  const Request& request_;
  const Epilogue& epilogue_;
  ProductArgs args_{};
};

// A product whose epilogue is a map of its own, over sums in the scratch.
KernelPtr with_separate_epilogue(const Request& request, const Expr& epilogue, const Attrs& without_epilogue,
                                 KernelPtr (*make)(const Request&), bool gated = false);

}  // namespace npu::gpu

#include "cpu/ops/ops.h"
#include "support/check.h"
#include "support/tensors.h"

using namespace npu;
using namespace npu::test;

namespace {

void check_matmul(std::int64_t batch, std::int64_t m, std::int64_t n, std::int64_t k, bool transposed,
                  bool shared, bool constant, bool bias, int threads) {
  Tensor a = make_tensor({batch, m, k}, Layout::kRowMajor, 1);
  Tensor b = make_tensor(transposed ? Shape{shared ? 1 : batch, n, k} : Shape{shared ? 1 : batch, k, n},
                         Layout::kRowMajor, 2, constant);
  Tensor row = make_tensor({n}, Layout::kRowMajor, 3), y = make_tensor({batch, m, n}, Layout::kRowMajor, 4);
  b.desc.shape = {batch, k, n};
  b.desc.strides = {shared ? 0 : n * k, transposed ? 1 : n, transposed ? k : 1};
  row.desc.shape = {batch, m, n};
  row.desc.strides = {0, 0, 1};
  Op op;
  op.kind = OpKind::kMatmul;
  op.attrs.emplace<MatmulAttrs>();  // GCC warns of what an assignment would move
  ThreadPool pool(threads);
  const auto kernel =
      cpu::make_matmul({op, {a.desc, b.desc, bias ? row.desc : TensorDesc()}, {y.desc}, threads});
  run_kernel(*kernel, {&a, &b, bias ? &row : nullptr}, {&y}, pool);
  Difference difference;
  y.each([&](const Shape& at, float got) {
    double want = bias ? row.at(at) : 0;
    const float* left = a.data.data() + a.start + at[0] * a.desc.strides[0] + at[1] * a.desc.strides[1];
    const float* right = b.data.data() + b.start + at[0] * b.desc.strides[0] + at[2] * b.desc.strides[2];
    for (std::int64_t i = 0; i < k; ++i) {
      want += static_cast<double>(left[i * a.desc.strides[2]]) *
              static_cast<double>(right[i * b.desc.strides[1]]);
    }
    difference.add(got, want);
  });
  CHECK(difference.relative() < 1e-12);
}

}  // namespace

TEST(cpu_matmul, matches_its_definition) {
  for (const std::int64_t batch : {1, 3}) {
    for (const std::int64_t m : {1, 2, 5, 33}) {
      for (const std::int64_t n : {1, 17, 64, 300}) {
        for (const std::int64_t k : {0, 1, 7, 300}) {
          for (int options = 0; options < 16; ++options) {
            check_matmul(batch, m, n, k, options & 1, options & 2, options & 4, options & 8,
                         1 + (options & 1));
          }
        }
      }
    }
  }
}

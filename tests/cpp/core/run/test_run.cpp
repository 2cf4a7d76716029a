// Executors, sessions and weights, through the public API.
#include <atomic>
#include <cstdlib>
#include <new>
#include <numeric>
#include <thread>

#include "npu/npu.h"
#include "support/check.h"
#include "support/step_program.h"

using namespace npu;
using namespace npu::test;

namespace {

float expected(const Buffer& x, const Buffer& w, std::int64_t row, std::int64_t column) {
  double sum = 1;
  for (int k = 0; k < 64; ++k) {
    sum += 2.0 * static_cast<double>(static_cast<float*>(x.data())[row * 64 + k]) *
           static_cast<double>(static_cast<float*>(w.data())[column * 64 + k]);
  }
  return sum > 0 ? static_cast<float>(sum) : 0;
}

bool close(float a, float b) { return std::abs(a - b) <= 1e-4f * (1 + std::abs(b)); }

struct Step {
  Program program = step_program();
  Executor executor{program, Device::open("cpu"), {2}};
  Weights weights;
  Buffer w = filled({48, 64}, -0.3f, 0.05f), x = filled({2, 64}, 0.2f, -0.02f);
  Step() { weights.set("w", w); }
  void check(const Buffer& y) const {
    for (std::int64_t r = 0; r < 2; ++r) {
      for (std::int64_t c = 0; c < 48; ++c)
        CHECK(close(static_cast<float*>(y.data())[r * 48 + c], expected(x, w, r, c)));
    }
  }
};

}  // namespace

TEST(executor, runs_and_prepares) {
  const Step s;
  const auto outputs =
      s.executor.run(std::vector<Buffer>{s.x, filled({4, 48}, 7, 0), position(2)}, s.weights);
  s.check(outputs[0]);
  const float* cache = static_cast<float*>(outputs[1].data());
  CHECK(cache[0] == 7 && cache[3 * 48] == 7);
  for (std::int64_t c = 0; c < 48; ++c) CHECK(close(cache[2 * 48 + c], expected(s.x, s.w, 0, c)));
}

// Kernels that would pack a constant weight get none packed for what runs once.
TEST(executor, weights_may_be_convolved_beforehand) {
  const Program program = Program::parse(program_file(R"({
    "model_name": "beforehand",
    "values": [
      {"name": "x", "dtype": "float32", "shape": [1, 5, 5, 8]}, {"name": "w", "dtype": "float32", "shape": [8, 1, 3, 3]},
      {"name": "made", "dtype": "float32", "shape": [1, 8, 3, 3]}, {"name": "y", "dtype": "float32", "shape": [1, 8, 3, 3]}],
    "inputs": [], "outputs": [{"name": "y", "value": 3}],
    "weights": [{"name": "x", "value": 0}, {"name": "w", "value": 1}],
    "prepare": [{"op": "conv", "name": "conv", "in": [[0, [1, 8, 5, 5], [200, 1, 40, 8], 0], 1], "out": [2],
                 "attrs": {"stride": [1, 1], "padding_low": [0, 0], "padding_high": [0, 0], "dilation": [1, 1],
                           "input_dilation": [1, 1], "groups": 8}}],
    "main": [{"op": "copy", "name": "out", "in": [2], "out": [3]}]
  })"));
  Weights weights;
  weights.set("x", filled({1, 5, 5, 8}, 2, 0));
  weights.set("w", filled({8, 1, 3, 3}, 1, 0));
  const auto outputs = Executor(program, Device::open("cpu")).run(std::vector<Buffer>{}, weights);
  for (std::int64_t i = 0; i < 72; ++i) CHECK_EQ(static_cast<float*>(outputs[0].data())[i], 18.0f);
}

TEST(executor, donation_updates_in_place) {
  const Step s;
  const Buffer cache = filled({4, 48}, 7, 0);
  const std::vector<Buffer> inputs = {s.x, cache, position(1)};
  std::vector<Buffer> outputs(2);
  s.executor.run(inputs, s.weights, {}, outputs);
  CHECK(outputs[1].data() != cache.data());
  CHECK(static_cast<float*>(cache.data())[48] == 7);
  const bool donate[3] = {false, true, false};
  s.executor.run(inputs, s.weights, donate, outputs);
  CHECK(outputs[1].data() == cache.data());
  CHECK(static_cast<float*>(cache.data())[48] != 7);
}

TEST(executor, memory_updated_in_place_is_no_other_input) {
  const Step s;
  Buffer cache = filled({4, 48}, 7, 0);
  const auto owner = std::make_shared<Buffer>(cache);
  const Buffer x = Buffer::wrap(cache.data(), DType::kFloat32, {2, 64}, owner);
  std::vector<Buffer> outputs(2);
  const bool donate[3] = {false, true, false};
  CHECK_THROWS(s.executor.run(std::vector<Buffer>{x, cache, position(0)}, s.weights, donate, outputs),
               "\"x\"");
  s.executor.run(std::vector<Buffer>{x, cache, position(0)}, s.weights);  // without donation it may be
  Session session = s.executor.session();
  session.run(std::vector<Buffer>{s.x, Buffer(), position(0)}, s.weights);
  const Buffer state = session.state(1);
  const Buffer again = Buffer::wrap(state.data(), DType::kFloat32, {2, 64}, std::make_shared<Buffer>(state));
  CHECK_THROWS(session.run(std::vector<Buffer>{again, Buffer(), position(0)}, s.weights),
               "held by the session");
}

TEST(executor, memory_of_a_weight_is_not_donated) {
  const Step s;
  Weights weights = s.weights;
  const Buffer cache = filled({4, 48}, 7, 0);
  weights.set("other", cache);
  const std::vector<Buffer> inputs = {s.x, cache, position(1)};
  std::vector<Buffer> outputs(2);
  const bool donate[3] = {false, true, false};
  CHECK_THROWS(s.executor.run(inputs, weights, donate, outputs), "the weight \"other\"");
  const Buffer part = Buffer::wrap(static_cast<std::byte*>(cache.data()) + 4 * 48 * 4 - 4, DType::kFloat32,
                                   {1}, std::make_shared<Buffer>(cache));
  weights.set("other", part);  // its last element only
  CHECK_THROWS(s.executor.run(inputs, weights, donate, outputs), "the weight \"other\"");
  CHECK(static_cast<float*>(cache.data())[48] == 7);
  s.executor.run(inputs, weights, {}, outputs);  // without donation it may be
  weights.set("other", filled({1}, 1, 0));
  s.executor.run(inputs, weights, donate, outputs);
  CHECK(outputs[1].data() == cache.data());
}

TEST(executor, sessions_keep_state) {
  const Step s;
  Session session = s.executor.session();
  session.run(std::vector<Buffer>{s.x, Buffer(), position(0)}, s.weights);
  const auto outputs = session.run(std::vector<Buffer>{s.x, Buffer(), position(3)}, s.weights);
  const float* cache = static_cast<float*>(outputs[1].data());
  CHECK(cache[0] == cache[3 * 48] && cache[48] == 0);
  session.reset();
  CHECK(!session.state(1));
}

TEST(executor, held_outputs_stay_as_they_are) {
  const Step s;
  Session session = s.executor.session();
  std::vector<Buffer> outputs;
  for (int i = 0; i < 12; ++i) {
    outputs.push_back(session.run(
        std::vector<Buffer>{filled({2, 64}, 0.1f * static_cast<float>(i), 0), Buffer(), position(0)},
        s.weights)[0]);
  }
  for (std::size_t i = 1; i < outputs.size(); ++i) CHECK(outputs[i].data() != outputs[i - 1].data());
  const Buffer x = filled({2, 64}, 0, 0);
  CHECK(close(static_cast<float*>(outputs[0].data())[5], expected(x, s.w, 0, 5)));
}

TEST(executor, many_threads_share_one) {
  const Step s;
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (int t = 0; t < 64; ++t) {
    threads.emplace_back([&, t] {
      const Buffer x = filled({2, 64}, 0.01f * static_cast<float>(t), 0.003f);
      for (int i = 0; i < 20; ++i) {
        const auto outputs =
            s.executor.run(std::vector<Buffer>{x, filled({4, 48}, 0, 0), position(t % 4)}, s.weights);
        for (std::int64_t c = 0; c < 48; ++c)
          failures += !close(static_cast<float*>(outputs[0].data())[c], expected(x, s.w, 0, c));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK_EQ(failures.load(), 0);
}

TEST(executor, a_session_is_for_one_thread) {
  const Step s;
  Session session = s.executor.session();
  const std::vector<Buffer> inputs = {s.x, filled({4, 48}, 0, 0), position(0)};
  std::atomic<int> refused{0}, failures{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        try {
          session.run(inputs, s.weights);
        } catch (const Error& error) {
          ++(std::string(error.what()).find("another thread") != std::string::npos ? refused : failures);
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK_EQ(failures.load(), 0);
  CHECK(refused.load() < 1600);
  s.check(session.run(inputs, s.weights)[0]);
}

TEST(executor, replaced_weights_are_prepared_again) {
  Step s;
  const std::vector<Buffer> inputs = {s.x, filled({4, 48}, 0, 0), position(0)};
  s.executor.run(inputs, s.weights);
  s.w = filled({48, 64}, 0.1f, 0.01f);
  s.weights.set("w", s.w);
  s.check(s.executor.run(inputs, s.weights)[0]);
}

TEST(executor, weights_answer_to_ties_and_a_prefix) {
  const Step s;
  const std::vector<Buffer> inputs = {s.x, filled({4, 48}, 0, 0), position(0)};
  for (const char* name : {"tied", "model.w"}) {
    Weights weights;
    weights.set(name, s.w);
    s.check(s.executor.run(inputs, weights)[0]);
  }
}

TEST(executor, mistakes_are_named) {
  const Step s;
  const Buffer cache = filled({4, 48}, 0, 0);
  using Inputs = std::vector<Buffer>;
  CHECK_THROWS(s.executor.run(Inputs{s.x, cache}, s.weights), "number of inputs");
  CHECK_THROWS(s.executor.run(Inputs{Buffer(), cache, position(0)}, s.weights), "input \"x\" does not fit");
  CHECK_THROWS(s.executor.run(Inputs{filled({2, 63}, 0, 0), cache, position(0)}, s.weights),
               "float32[2, 63]");
  CHECK_THROWS(s.executor.run(Inputs{s.x, cache, filled({1}, 0, 0)}, s.weights), "int64[1]");
  CHECK_THROWS(s.executor.run(Inputs{s.x, cache, position(4)}, s.weights), "write");
  CHECK_THROWS(s.executor.run(Inputs{s.x, cache, position(-1)}, s.weights), "write");
  CHECK_THROWS(s.executor.run(Inputs{s.x, cache, position(0)}, Weights()), "missing weights: \"w\"");
  Weights transposed;
  transposed.set("w", filled({64, 48}, 0, 0));
  CHECK_THROWS(s.executor.run(Inputs{s.x, cache, position(0)}, transposed), "float32[48, 64]");
  CHECK_THROWS(Device::open("metall"), "no such kind");
  CHECK_THROWS(Executor(s.program, Device::open(), {-1}), "number of threads");
  CHECK_THROWS(Buffer::allocate(DType::kFloat32, {std::int64_t{1} << 44}), "not enough memory");
  s.check(s.executor.run(Inputs{s.x, cache, position(0)}, s.weights)[0]);  // none of that did harm
}

// The sanitizers have their own operator new.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
namespace {
std::atomic<std::int64_t> g_allocations{0};
}

// Not inlined: GCC would see malloc beside delete, and free beside new.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++g_allocations;
  if (void* p = std::malloc(size ? size : 1)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

TEST(executor, a_run_allocates_nothing) {
  const Step s;
  Session session = s.executor.session();
  const std::vector<Buffer> inputs = {s.x, filled({4, 48}, 0, 0), position(0)};
  std::vector<Buffer> outputs(2);
  for (int i = 0; i < 3; ++i) session.run(inputs, s.weights, {}, outputs);
  const std::int64_t before = g_allocations;
  for (int i = 0; i < 10; ++i) session.run(inputs, s.weights, {}, outputs);
  CHECK_EQ(g_allocations - before, 0);
}
#endif

// Which norms become part of the product that reads them: plans of small programs for a chip on paper.
#include "core/plan/plan.h"
#include "gpu/device/gpu_runner.h"
#include "gpu/plan/gpu_kernel.h"
#include "npu/npu.h"
#include "support/check.h"
#include "support/sample_programs.h"

using namespace npu;
using namespace npu::gpu;
using namespace npu::test;

namespace {

// y = product(norm(x)), from parts that a test replaces: extents of the values, views, further ops.
struct Parts {
  std::string x = "[1, 2, 64]", normal = "[1, 2, 64]", y = "[2, 32]";
  std::string norm_in = "0, 1, null", norm_attrs = R"("kind": "rms", "eps": 1e-6)";
  std::string product_in = "[4, [2, 64], [64, 1], 0], [2, [64, 32], [1, 64], 0], [3, [2, 32], [0, 1], 0]";
  std::string weight = "[64]", more_inputs = "", between = "", after = "", more_values = "",
              more_outputs = "", product_attrs = "";
};

Program program_of(const Parts& p) {
  const auto value = [](const char* name, const std::string& shape) {
    return R"({"name": ")" + std::string(name) + R"(", "dtype": "float32", "shape": )" + shape + "}";
  };
  const std::string json =
      R"({"model_name": "normed", "values": [)" + value("x", p.x) + "," + value("g", p.weight) + "," +
      value("w", "[32, 64]") + "," + value("bias", "[32]") + "," + value("normal", p.normal) + "," +
      value("y", p.y) + p.more_values + R"(], "inputs": [{"name": "x", "value": 0})" + p.more_inputs +
      R"(], "weights": [{"name": "g", "value": 1}, {"name": "w", "value": 2}, {"name": "bias", "value": 3}],
      "outputs": [{"name": "y", "value": 5})" +
      p.more_outputs + R"(], "main": [{"op": "norm", "name": "norm", "in": [)" + p.norm_in +
      R"(], "out": [4], "attrs": {)" + p.norm_attrs + "}}" + p.between +
      R"(, {"op": "matmul", "name": "product", "in": [)" + p.product_in + R"(], "out": [5], "attrs": {)" +
      p.product_attrs + "}}" + p.after + "]}";
  return Program::parse(program_file(json));
}

Plan plan_of(const Parts& parts, const char* device = "metal:m4pro") {
  return Plan(program_of(parts), Device::open(device), 1);
}

bool fused(const Parts& parts) { return !plan_of(parts).steps.front().fused.empty(); }

const TensorDesc& rows_of(const Plan& plan) { return plan.steps.front().input_descs[0]; }

}  // namespace

TEST(gpu_norms, a_norm_and_its_product_are_one_step) {
  const Plan plan = plan_of({});
  CHECK_EQ(plan.steps.size(), 1u);
  const Step& step = plan.steps[0];
  CHECK_EQ(step.name(), "norm + product");
  CHECK_EQ(step.kernel->name(), "norm[rms] + matmul[rows]");
  CHECK_EQ(step.inputs.size(), 8u);
  CHECK_EQ(step.inputs[6].value, 1);
  CHECK_EQ(step.inputs[7].value, -1);
  CHECK_EQ(plan.arena_bytes, 0);
  const auto& gpu = static_cast<const GpuPlan&>(*plan.device_plan);
  CHECK_EQ(gpu.schedule.dispatches, 1);
  const Dispatch& launch = *gpu.schedule.launches[0].dispatch;
  CHECK_EQ(launch.function, "matmul_rows_norm_k_major_2x1_float");
  CHECK_EQ(launch.threadgroup_bytes, 2 * 64 * 4);
  CHECK_EQ(gpu.schedule.launches[0].label, launch.function + " of norm + product");
  CHECK_EQ(step.kernel->flops(), 2.0 * 2 * 32 * 64 + launch.groups[0] * 7.0 * 2 * 64);
  CHECK_EQ(gpu.estimate.total.read, 4.0 * (2 * 64 + 64 + 32 * 64 + 32));
  CHECK_EQ(gpu.estimate.total.written, 4.0 * 2 * 32);
  CHECK_EQ(gpu.estimate.least_bytes, gpu.estimate.total.read + gpu.estimate.total.written);
  CHECK(plan.text().find("# norm + product\n") != std::string::npos);
}

TEST(gpu_norms, cpus_do_them_one_by_one) {
  const Plan plan = plan_of({}, "cpu");
  CHECK_EQ(plan.steps.size(), 2u);
  CHECK_EQ(plan.steps[0].name(), "norm");
  CHECK_EQ(plan.steps[1].name(), "product");
}

TEST(gpu_norms, views_of_what_is_normalised_become_views_of_what_is_read) {
  // The last of some rows, of which x has every other one.
  Parts last{.x = "[1, 6, 64]", .normal = "[1, 3, 64]", .y = "[1, 32]"};
  last.norm_in = "[0, [1, 3, 64], [384, 128, 1], 64], 1, null";
  last.product_in = "[4, [1, 64], [64, 1], 128], [2, [64, 32], [1, 64], 0], [3, [1, 32], [0, 1], 0]";
  const Plan plan = plan_of(last);
  CHECK_EQ(plan.steps.size(), 1u);
  CHECK_EQ(plan.steps[0].inputs[0].offset, 4 * (64 + 2 * 128));
  CHECK(rows_of(plan).shape == (Shape{1, 64}));
  // Rows of columns.
  Parts turned{.x = "[64, 2]"};
  turned.norm_in = "[0, [1, 2, 64], [0, 1, 2], 0], 1, null";
  CHECK(rows_of(plan_of(turned)).strides == (Shape{1, 2}));
  // The same row twice, and backwards.
  Parts again;
  again.product_in = "[4, [2, 64], [0, 1], 64], [2, [64, 32], [1, 64], 0], [3, [2, 32], [0, 1], 0]";
  CHECK(rows_of(plan_of(again)).strides == (Shape{0, 1}));
  again.product_in = "[4, [2, 64], [-64, 1], 64], [2, [64, 32], [1, 64], 0], [3, [2, 32], [0, 1], 0]";
  CHECK(rows_of(plan_of(again)).strides == (Shape{-64, 1}));
  // A norm over two dimensions.
  Parts wide{.x = "[2, 8, 8]", .normal = "[2, 8, 8]"};
  wide.norm_attrs += R"(, "axes": 2)";
  wide.weight = "[8, 8]";
  CHECK(rows_of(plan_of(wide)).strides == (Shape{64, 1}));
}

TEST(gpu_norms, views_that_cut_rows_keep_the_norm_apart) {
  Parts shifted{.normal = "[1, 3, 64]"};  // from the middle of one row to the middle of the next
  shifted.x = shifted.normal;
  shifted.product_in = "[4, [2, 64], [64, 1], 32], [2, [64, 32], [1, 64], 0], [3, [2, 32], [0, 1], 0]";
  CHECK(!fused(shifted));
  Parts short_rows;  // half of each
  short_rows.product_in = "[4, [2, 32], [64, 1], 0], [2, [32, 32], [1, 32], 0], [3, [2, 32], [0, 1], 0]";
  CHECK(!fused(short_rows));
  Parts across{.x = "[1, 64, 64]", .normal = "[1, 64, 64]"};  // an element of each
  across.product_in = "[4, [2, 64], [1, 64], 0], [2, [64, 32], [1, 64], 0], [3, [2, 32], [0, 1], 0]";
  CHECK(!fused(across));
  Parts uneven{.x = "[4, 4, 64]", .normal = "[2, 2, 64]", .y = "[2, 2, 32]"};  // rows at no even distance
  uneven.norm_in = "[0, [2, 2, 64], [512, 64, 1], 0], 1, null";
  uneven.product_in = "4, [2, [2, 64, 32], [0, 1, 64], 0], null";
  CHECK(!fused(uneven));
  Parts even = uneven;
  even.norm_in = "[0, [2, 2, 64], [256, 128, 1], 0], 1, null";
  CHECK(fused(even));
}

TEST(gpu_norms, what_others_read_or_change_keeps_the_norm_apart) {
  CHECK(fused({}));
  Parts output;
  output.more_outputs = R"(, {"name": "normal", "value": 4})";
  CHECK(!fused(output));
  Parts second;
  second.more_values = R"(, {"name": "z", "dtype": "float32", "shape": [1, 2, 64]})";
  second.more_outputs = R"(, {"name": "z", "value": 6})";
  second.after = R"(, {"op": "softmax", "name": "reader", "in": [4], "out": [6], "attrs": {"axis": 2}})";
  CHECK(!fused(second));
  second.after = "";
  second.between = R"(, {"op": "softmax", "name": "reader", "in": [0], "out": [6], "attrs": {"axis": 2}})";
  CHECK_EQ(plan_of(second).steps[1].name(), "norm + product");
  // x is written before the product would read it.
  second.between = R"(, {"op": "copy", "name": "update", "in": [[1, [1, 2, 64], [0, 0, 1], 0]], "out": [6]})";
  CHECK_EQ(plan_of(second).steps.size(), 2u);
  second.more_outputs = R"(, {"name": "z", "value": 6, "alias": 0})";
  CHECK(!fused(second));
  CHECK_EQ(plan_of(second).steps.size(), 3u);
}

TEST(gpu_norms, only_rows_that_fit_are_normalised_on_the_way) {
  Parts many{.x = "[9, 64]", .normal = "[9, 64]", .y = "[9, 32]"};
  many.product_in = "4, [2, [64, 32], [1, 64], 0], null";
  CHECK(!fused(many));
  Parts group{.x = "[2, 64]", .normal = "[2, 64]"};
  group.norm_attrs = R"("kind": "group", "groups": 4, "eps": 1e-6)";
  group.product_in = "4, [2, [64, 32], [1, 64], 0], [3, [2, 32], [0, 1], 0]";
  CHECK(!fused(group));
  group.norm_attrs = R"("kind": "layer", "eps": 1e-6)";
  CHECK(fused(group));
  Parts right;  // the other factor is what is normalised
  right.y = "[32, 2]";
  right.product_in = "[2, [32, 64], [64, 1], 0], [4, [64, 2], [1, 64], 0], null";
  CHECK(!fused(right));
}

TEST(gpu_norms, quantised_products_normalise_their_rows_too) {
  Parts p;
  p.more_values = R"(, {"name": "q", "dtype": "uint8", "shape": [32, 32]})"
                  R"(, {"name": "scales", "dtype": "float32", "shape": [32, 2]})";
  p.more_inputs = R"(, {"name": "q", "value": 6}, {"name": "scales", "value": 7})";
  p.product_in = "[4, [2, 64], [64, 1], 0], 6, [3, [2, 32], [0, 1], 0], 7, null";
  p.product_attrs = R"("bits": 4, "group": 32)";
  const Plan plan = plan_of(p);
  CHECK_EQ(plan.steps.size(), 1u);
  CHECK_EQ(plan.steps[0].kernel->name(), "norm[rms] + matmul[quantized rows]");
  CHECK_EQ(plan.steps[0].inputs.size(), 8u);
  const auto& gpu = static_cast<const GpuPlan&>(*plan.device_plan);
  CHECK_EQ(gpu.schedule.launches[0].dispatch->function, "matmul_quantized_norm_4_2x1_float");
  CHECK_EQ(gpu.estimate.total.read, 4.0 * (2 * 64 + 64 + 32 + 32 * 2) + 32 * 32);
  p.product_attrs = R"("bits": 3, "group": 32)";  // whose numbers a launch of its own makes
  p.more_values = R"(, {"name": "q", "dtype": "uint8", "shape": [32, 24]})"
                  R"(, {"name": "scales", "dtype": "float32", "shape": [32, 2]})";
  CHECK(!fused(p));
}

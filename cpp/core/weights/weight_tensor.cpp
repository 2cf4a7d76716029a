#include "core/weights/weight_tensor.h"

#include "npu/error.h"

namespace npu {

WeightTensor::WeightTensor(std::string name, DType dtype, std::vector<std::int64_t> shape, MakeTensor make)
    : recipe_(std::make_shared<Recipe>(std::move(name), dtype, std::move(shape), std::move(make))) {}

Buffer WeightTensor::get() const {
  if (!recipe_) return buffer_;
  Buffer made = recipe_->make();
  if (made && made.dtype() == recipe_->dtype && made.shape() == recipe_->shape) return made;
  throw Error(ErrorKind::kInvalidValue,
              {.area = "weights",
               .what = "weight " + quoted(recipe_->name) + " was made with another shape or dtype",
               .got = made ? std::string(dtype_name(made.dtype())) + shape_text(made.shape()) : "nothing",
               .expected = std::string(dtype_name(recipe_->dtype)) + shape_text(recipe_->shape)});
}

}  // namespace npu

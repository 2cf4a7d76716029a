// Weight files in the format of safetensors, checked: every tensor's bytes lie inside the file.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/memory.h"
#include "core/program/program.h"
#include "npu/dtype.h"

namespace npu {

struct StoredTensor {
  std::string name;
  std::string dtype_text;      // as in the file: "F32"
  std::optional<DType> dtype;  // none for types that programs do not have
  Shape shape;
  std::span<const std::byte> data;
  std::shared_ptr<Memory> file;  // that has the data
};

struct TensorFile {
  std::vector<StoredTensor> tensors;
};

TensorFile read_safetensors(const std::string& path);

// Of several files that lie beside their *.safetensors.index.json.
TensorFile read_safetensors_index(const std::string& path);

// `where` names the bytes in errors; `file` keeps them.
TensorFile parse_safetensors(std::span<const std::byte> bytes, const std::string& where,
                             std::shared_ptr<Memory> file);

}  // namespace npu

#include "core/weights/safetensors.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <map>
#include <set>
#include <utility>

#include "core/base/file_spot.h"
#include "core/base/mapped_file.h"
#include "core/program/shapes.h"
#include "npu/error.h"

namespace npu {

namespace {

constexpr std::uint64_t kLongestHeader = 100'000'000;  // as in the library that defines the format
constexpr std::size_t kMostDims = 64;
constexpr const char* kDownloadAgain = "downloading the file again";

struct StoredType {
  std::string_view name;
  std::int64_t bits;
  std::optional<DType> dtype;
};

constexpr StoredType kTypes[] = {
    {"F32", 32, DType::kFloat32},
    {"F16", 16, DType::kFloat16},
    {"BF16", 16, DType::kBFloat16},
    {"I8", 8, DType::kInt8},
    {"I16", 16, DType::kInt16},
    {"I32", 32, DType::kInt32},
    {"I64", 64, DType::kInt64},
    {"U8", 8, DType::kUInt8},
    {"BOOL", 8, DType::kBool},
    {"F64", 64, {}},
    {"U16", 16, {}},
    {"U32", 32, {}},
    {"U64", 64, {}},
    {"C64", 64, {}},
    {"F8_E4M3", 8, {}},
    {"F8_E5M2", 8, {}},
    {"F8_E8M0", 8, {}},
    {"F8_E4M3FNUZ", 8, {}},
    {"F8_E5M2FNUZ", 8, {}},
    {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},
    {"F4", 4, {}},
};

StoredTensor read_tensor(const std::string& name, Json json, std::span<const std::byte> data,
                         const FileSpot& spot) {
  const auto [dtype, shape, offsets] = spot.fields(json, {"dtype", "shape", "data_offsets"});
  StoredTensor tensor;
  tensor.name = name;
  tensor.dtype_text = spot.text(*dtype, "dtype");
  const auto* const type = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const StoredType& known) {
    return known.name == tensor.dtype_text;
  });
  if (type == std::end(kTypes)) spot.refuse("has an unknown dtype", quoted(tensor.dtype_text));
  tensor.dtype = type->dtype;
  tensor.shape = spot.integers(*shape, "shape", 0, kLargestExtent, kMostDims);
  const auto elements = elements_of(tensor.shape);
  if (!elements) spot.refuse("is too large", {}, "fewer than 2^46 elements");
  const auto size = static_cast<std::int64_t>(data.size());
  const std::vector<std::int64_t> range = spot.integers(*offsets, "data_offsets", 0, size, 2);
  if (range.size() != 2 || range[0] > range[1])
    spot.refuse("has no valid 'data_offsets'", {}, "[begin, end]");
  if (*elements * type->bits % 8 != 0 || *elements * type->bits / 8 != range[1] - range[0]) {
    spot.refuse("has a size that does not match its shape and dtype",
                std::to_string(range[1] - range[0]) + " bytes");
  }
  tensor.data =
      data.subspan(static_cast<std::size_t>(range[0]), static_cast<std::size_t>(range[1] - range[0]));
  return tensor;
}

void refuse_overlaps(const std::vector<StoredTensor>& tensors, FileSpot& spot) {
  std::vector<const StoredTensor*> sorted;
  for (const StoredTensor& tensor : tensors) {
    if (!tensor.data.empty()) sorted.push_back(&tensor);
  }
  std::sort(sorted.begin(), sorted.end(),
            [](const StoredTensor* a, const StoredTensor* b) { return a->data.data() < b->data.data(); });
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    const auto& before = sorted[i - 1]->data;
    if (before.data() + before.size() <= sorted[i]->data.data()) continue;
    spot.subject = "tensor " + quoted(sorted[i]->name);
    spot.refuse("overlaps tensor " + quoted(sorted[i - 1]->name));
  }
}

TensorFile parse(std::span<const std::byte> bytes, const std::string& where,
                 const std::shared_ptr<Memory>& owner) {
  FileSpot spot{"weights", where, {}};
  std::uint64_t length = 0;
  if (bytes.size() < sizeof length)
    spot.refuse("not a safetensors file", std::to_string(bytes.size()) + " bytes");
  std::memcpy(&length, bytes.data(), sizeof length);
  if (length > kLongestHeader)
    spot.refuse("not a safetensors file", "a header of " + std::to_string(length) + " bytes");
  if (length > bytes.size() - sizeof length) {
    spot.refuse("the file is cut off", std::to_string(bytes.size()) + " bytes", {}, kDownloadAgain);
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + sizeof length, length);
  const JsonDocument document = JsonDocument::parse(text, spot.area, where);
  const auto data = bytes.subspan(sizeof length + length);
  if (!document.root().is(JsonKind::kObject))
    spot.refuse("the header is not an object", document.root().summary());
  TensorFile file;
  for (auto at = document.root().begin(); at != document.root().end(); ++at) {
    const std::string& name = (*at).text();
    ++at;
    if (name == "__metadata__") continue;
    spot.subject = "tensor " + quoted(name);
    file.tensors.push_back(read_tensor(name, *at, data, spot));
    file.tensors.back().file = owner;
  }
  refuse_overlaps(file.tensors, spot);
  return file;
}

// Every failure becomes an npu::Error.
template <class F>
auto guarded(const std::string& where, F&& read) {
  try {
    return read();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {  // memory, in the main
    throw Error(ErrorKind::kInvalidValue,
                {.area = "weights", .what = where + ": the file could not be read", .got = error.what()});
  }
}

bool plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

// Which tensors each shard holds, by the index.
std::map<std::string, std::set<std::string>> read_index(const std::string& path) {
  const auto file = MappedFile::open(path);
  FileSpot spot{"weights", path, {}};
  const std::string_view text(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size());
  const JsonDocument document = JsonDocument::parse(text, spot.area, path);
  std::optional<Json> map;  // other members say nothing about the tensors
  if (document.root().is(JsonKind::kObject)) {
    for (auto at = document.root().begin(); at != document.root().end(); ++at) {
      const bool here = (*at).text() == "weight_map";
      ++at;
      if (here) map.emplace(*at);
    }
  }
  if (!map || !map->is(JsonKind::kObject)) spot.refuse("not a weight index", {}, "an object 'weight_map'");
  std::map<std::string, std::set<std::string>> shards;
  for (auto at = map->begin(); at != map->end(); ++at) {
    const std::string& name = (*at).text();
    ++at;
    spot.subject = "tensor " + quoted(name);
    const std::string& shard = spot.text(*at, "weight_map");
    if (!plain_name(shard)) {
      spot.refuse("its file name is not a plain name", quoted(shard), "a file in the folder of the index");
    }
    shards[shard].insert(name);
  }
  return shards;
}

TensorFile read_shards(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? std::string() : path.substr(0, slash + 1);
  TensorFile all;
  for (auto& [shard, names] : read_index(path)) {
    TensorFile file = read_safetensors(folder + shard);
    for (StoredTensor& tensor : file.tensors) {
      // Tensors that the index does not list are not part of the model.
      if (names.erase(tensor.name) != 0) all.tensors.push_back(std::move(tensor));
    }
    if (!names.empty()) {
      const FileSpot spot{"weights", path, {}};
      spot.refuse("tensor " + quoted(*names.begin()) + " is not in " + quoted(shard) +
                  ", where the index puts it");
    }
  }
  return all;
}

}  // namespace

TensorFile parse_safetensors(std::span<const std::byte> bytes, const std::string& where,
                             std::shared_ptr<Memory> file) {
  return guarded(where, [&] { return parse(bytes, where, file); });
}

TensorFile read_safetensors(const std::string& path) {
  const auto file = MappedFile::open(path);
  return parse_safetensors(file->bytes(), path, file);
}

TensorFile read_safetensors_index(const std::string& path) {
  return guarded(path, [&] { return read_shards(path); });
}

}  // namespace npu

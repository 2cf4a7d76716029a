// JSON from untrusted files: read into one flat array, so that memory stays proportional to the
// text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace npu {

enum class JsonKind : std::uint8_t { kNull, kBool, kInteger, kNumber, kString, kArray, kObject };

class JsonDocument;

// One value of a document, which must outlive it. The accessors need the right kind.
class Json {
 public:
  JsonKind kind() const;
  bool is(JsonKind kind_) const { return kind() == kind_; }
  bool boolean() const;
  std::int64_t integer() const;
  double number() const;  // of an integer too
  const std::string& text() const;
  std::size_t size() const;  // members of an array or an object

  // A short description for messages.
  std::string summary() const;

  // For arrays: the elements. For objects: key, value, key, value, ... in the order of the text.
  class Iterator {
   public:
    Json operator*() const { return {*document_, at_}; }
    Iterator& operator++();
    bool operator==(const Iterator& other) const { return at_ == other.at_; }

   private:
    friend class Json;
    Iterator(const JsonDocument* document, std::uint32_t at) : document_(document), at_(at) {}
    const JsonDocument* document_;
    std::uint32_t at_;
  };
  Iterator begin() const;
  Iterator end() const;

 private:
  friend class JsonDocument;
  Json(const JsonDocument& document, std::uint32_t at) : document_(&document), at_(at) {}
  const JsonDocument* document_;
  std::uint32_t at_;
};

class JsonDocument {
 public:
  // Throws Error of the given area. Refuses deep nesting, keys that come twice in an object, and texts beyond
  // 256 MiB.
  static JsonDocument parse(std::string_view text, const std::string& area, const std::string& where);

  Json root() const { return {*this, 0}; }

 private:
  friend class Json;
  friend struct JsonBuilder;
  struct Node {
    JsonKind kind = JsonKind::kNull;
    std::uint32_t end = 0;  // the node after this one and all that it holds
    union {
      std::int64_t integer = 0;
      double number;
      std::uint64_t count;  // of an array or an object; for strings, the index
    };
  };
  std::vector<Node> nodes_;
  std::vector<std::string> strings_;
};

}  // namespace npu

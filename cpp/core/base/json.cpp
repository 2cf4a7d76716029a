#include "core/base/json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "npu/error.h"

namespace npu {

namespace {

constexpr std::size_t kLongestText = std::size_t{256} << 20;
constexpr std::size_t kDeepest = 32;

}  // namespace

// What nlohmann's parser calls; answering false stops it.
struct JsonBuilder {
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;
  using Node = JsonDocument::Node;

  JsonDocument& document;
  std::vector<std::uint32_t> open;  // arrays and objects around the current position
  std::string problem;

  Node& add(JsonKind kind) {
    auto& nodes = document.nodes_;
    if (!open.empty() && nodes[open.back()].kind == JsonKind::kArray) ++nodes[open.back()].count;
    Node node;
    node.kind = kind;
    node.end = static_cast<std::uint32_t>(nodes.size() + 1);
    nodes.push_back(node);
    return nodes.back();
  }

  void add_text(string_t& text) {
    add(JsonKind::kString).count = document.strings_.size();
    document.strings_.push_back(std::move(text));
  }

  bool enter(JsonKind kind) {
    if (open.size() >= kDeepest) {
      problem = "nested more than " + std::to_string(kDeepest) + " deep";
      return false;
    }
    add(kind);
    open.push_back(static_cast<std::uint32_t>(document.nodes_.size() - 1));
    return true;
  }

  bool leave() {
    document.nodes_[open.back()].end = static_cast<std::uint32_t>(document.nodes_.size());
    open.pop_back();
    return true;
  }

  bool keys_differ() {
    std::vector<std::string_view> keys;
    const auto& nodes = document.nodes_;
    for (std::uint32_t at = open.back() + 1; at < nodes.size(); at = nodes[at + 1].end) {
      keys.push_back(document.strings_[nodes[at].count]);
    }
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice == keys.end()) return true;
    problem = "the key " + quoted(*twice) + " comes twice in an object";
    return false;
  }

  bool null() {
    add(JsonKind::kNull);
    return true;
  }
  bool boolean(bool value) {
    add(JsonKind::kBool).integer = value;
    return true;
  }
  bool number_integer(number_integer_t value) {
    add(JsonKind::kInteger).integer = value;
    return true;
  }
  bool number_unsigned(number_unsigned_t value) {
    if (value <= static_cast<number_unsigned_t>(INT64_MAX))
      return number_integer(static_cast<number_integer_t>(value));
    return number_float(static_cast<double>(value), {});
  }
  bool number_float(number_float_t value, const string_t&) {
    add(JsonKind::kNumber).number = value;
    return true;
  }
  bool string(string_t& value) {
    add_text(value);
    return true;
  }
  bool binary(binary_t&) { return false; }  // JSON text has none
  bool start_object(std::size_t) { return enter(JsonKind::kObject); }
  bool key(string_t& value) {
    ++document.nodes_[open.back()].count;
    add_text(value);
    return true;
  }
  bool end_object() {
    document.nodes_[open.back()].end = static_cast<std::uint32_t>(document.nodes_.size());
    return keys_differ() && leave();
  }
  bool start_array(std::size_t) { return enter(JsonKind::kArray); }
  bool end_array() { return leave(); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& error) {
    // Without the library's own prefix: "[json.exception.parse_error.101] parse error at ...: ".
    std::string text = error.what();
    const std::size_t colon = text.find(": ");
    if (colon != std::string::npos) text.erase(0, colon + 2);
    if (text.size() > 160) text.resize(160);
    // It quotes the file, whose bytes may be anything.
    for (char& c : text) {
      if (c < 0x20 || c > 0x7e) c = '?';
    }
    problem = "syntax error at byte " + std::to_string(position) + ": " + text;
    return false;
  }
};

JsonDocument JsonDocument::parse(std::string_view text, const std::string& area, const std::string& where) {
  JsonDocument document;
  JsonBuilder builder{document, {}, {}};
  if (text.size() > kLongestText) {
    builder.problem = std::to_string(text.size()) + " bytes of it, more than 256 MiB";
  } else if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder) && builder.problem.empty()) {
    builder.problem = "syntax error";
  }
  if (!builder.problem.empty()) {
    throw Error(ErrorKind::kInvalidValue, {.area = area,
                                           .what = where + ": the JSON text is malformed",
                                           .got = builder.problem,
                                           .action = "writing or downloading the file again"});
  }
  return document;
}

JsonKind Json::kind() const { return document_->nodes_[at_].kind; }
bool Json::boolean() const { return document_->nodes_[at_].integer != 0; }
std::int64_t Json::integer() const { return document_->nodes_[at_].integer; }

double Json::number() const {
  const auto& node = document_->nodes_[at_];
  return node.kind == JsonKind::kInteger ? static_cast<double>(node.integer) : node.number;
}

const std::string& Json::text() const { return document_->strings_[document_->nodes_[at_].count]; }
std::size_t Json::size() const { return document_->nodes_[at_].count; }
Json::Iterator Json::begin() const { return {document_, at_ + 1}; }
Json::Iterator Json::end() const { return {document_, document_->nodes_[at_].end}; }

Json::Iterator& Json::Iterator::operator++() {
  at_ = document_->nodes_[at_].end;
  return *this;
}

std::string Json::summary() const {
  switch (kind()) {
    case JsonKind::kNull:
      return "null";
    case JsonKind::kBool:
      return boolean() ? "true" : "false";
    case JsonKind::kInteger:
      return std::to_string(integer());
    case JsonKind::kNumber:
      return nlohmann::json(number()).dump();
    case JsonKind::kString:
      return npu::quoted(text());
    case JsonKind::kArray:
      return "an array of " + std::to_string(size());
    case JsonKind::kObject:
      return "an object";
  }
  return {};
}

}  // namespace npu

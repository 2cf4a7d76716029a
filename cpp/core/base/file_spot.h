// A file that is being checked: typed values from JSON, and errors that say where a bad one is.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"

namespace npu {

struct FileSpot {
  std::string area;     // of the error
  std::string where;    // the file
  std::string subject;  // what is being looked at: op "conv1"

  [[noreturn]] void refuse(const std::string& what, std::string got = {}, std::string expected = {},
                           std::string action = {}) const;

  // These refuse a value that is of another kind or out of range; `key` names it.
  const std::string& text(Json value, std::string_view key) const;
  const std::string& name(Json value, std::string_view key) const;  // text, and not empty
  bool boolean(Json value, std::string_view key) const;
  std::int64_t integer(Json value, std::string_view key, std::int64_t low, std::int64_t high) const;
  double number(Json value, std::string_view key) const;  // also "inf", "-inf" and "nan"
  Json array(Json value, std::string_view key, std::size_t longest = SIZE_MAX) const;
  std::vector<std::int64_t> integers(Json value, std::string_view key, std::int64_t low, std::int64_t high,
                                     std::size_t longest) const;
  std::vector<std::string> texts(Json value, std::string_view key) const;

  // The members of an object in the order of `names`; a name that ends in '?' may be missing, and members
  // with other names are refused.
  template <std::size_t N>
  std::array<std::optional<Json>, N> fields(Json object, const std::string_view (&names)[N]) const {
    std::array<std::optional<Json>, N> members;
    find_fields(object, names, members.data());
    return members;
  }

 private:
  void find_fields(Json object, std::span<const std::string_view> names, std::optional<Json>* members) const;
};

}  // namespace npu

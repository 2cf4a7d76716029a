#include "core/base/file_spot.h"

#include <limits>

#include "npu/error.h"

namespace npu {

void FileSpot::refuse(const std::string& what, std::string got, std::string expected,
                      std::string action) const {
  throw Error(ErrorKind::kInvalidValue,
              {.area = area,
               .what = where + ": " + (subject.empty() ? what : subject + ": " + what),
               .got = std::move(got),
               .expected = std::move(expected),
               .action = std::move(action)});
}

namespace {

std::string quoted_key(std::string_view key) { return "'" + std::string(key) + "'"; }

std::string invalid(std::string_view key) { return quoted_key(key) + " has a wrong value"; }

}  // namespace

const std::string& FileSpot::text(Json value, std::string_view key) const {
  if (!value.is(JsonKind::kString)) refuse(invalid(key), value.summary(), "a string");
  return value.text();
}

const std::string& FileSpot::name(Json value, std::string_view key) const {
  const std::string& text_of = text(value, key);
  if (text_of.empty()) refuse(invalid(key), "an empty string", "a name");
  return text_of;
}

bool FileSpot::boolean(Json value, std::string_view key) const {
  if (!value.is(JsonKind::kBool)) refuse(invalid(key), value.summary(), "true or false");
  return value.boolean();
}

std::int64_t FileSpot::integer(Json value, std::string_view key, std::int64_t low, std::int64_t high) const {
  if (!value.is(JsonKind::kInteger) || value.integer() < low || value.integer() > high) {
    refuse(invalid(key), value.summary(),
           "an integer from " + std::to_string(low) + " to " + std::to_string(high));
  }
  return value.integer();
}

double FileSpot::number(Json value, std::string_view key) const {
  if (value.is(JsonKind::kInteger) || value.is(JsonKind::kNumber)) return value.number();
  if (value.is(JsonKind::kString)) {
    if (value.text() == "inf") return std::numeric_limits<double>::infinity();
    if (value.text() == "-inf") return -std::numeric_limits<double>::infinity();
    if (value.text() == "nan") return std::numeric_limits<double>::quiet_NaN();
  }
  refuse(invalid(key), value.summary(), R"(a number, "inf", "-inf" or "nan")");
}

Json FileSpot::array(Json value, std::string_view key, std::size_t longest) const {
  if (!value.is(JsonKind::kArray)) refuse(invalid(key), value.summary(), "an array");
  if (value.size() > longest) {
    refuse(quoted_key(key) + " is too long", std::to_string(value.size()),
           "at most " + std::to_string(longest));
  }
  return value;
}

std::vector<std::int64_t> FileSpot::integers(Json value, std::string_view key, std::int64_t low,
                                             std::int64_t high, std::size_t longest) const {
  std::vector<std::int64_t> all;
  all.reserve(array(value, key, longest).size());
  for (const Json item : value) all.push_back(integer(item, key, low, high));
  return all;
}

std::vector<std::string> FileSpot::texts(Json value, std::string_view key) const {
  std::vector<std::string> all;
  all.reserve(array(value, key).size());
  for (const Json item : value) all.push_back(text(item, key));
  return all;
}

void FileSpot::find_fields(Json object, std::span<const std::string_view> names,
                           std::optional<Json>* members) const {
  if (!object.is(JsonKind::kObject)) refuse("is not an object", object.summary());
  for (auto at = object.begin(); at != object.end(); ++at) {
    const std::string& key = (*at).text();
    std::size_t i = 0;
    while (i < names.size() &&
           key != (names[i].ends_with('?') ? names[i].substr(0, names[i].size() - 1) : names[i]))
      ++i;
    if (i == names.size()) refuse("has an unknown key", quoted(key));
    ++at;
    members[i].emplace(*at);
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (!members[i] && !names[i].ends_with('?')) refuse(quoted_key(names[i]) + " is missing");
  }
}

}  // namespace npu

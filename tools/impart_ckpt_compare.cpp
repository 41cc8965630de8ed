#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "impart/core/error.hpp"
#include "impart/io/checkpoint.hpp"
#include "impart_ckpt.hpp"
#include "impart_ckpt_json.hpp"

namespace impart::tool {

namespace {

struct TensorDifference {
  std::string name;
  std::string status;  // "equal", "differs", "only in A", "only in B", "shapes", "kinds"
  double absolute = 0;
  double relative = 0;
  std::int64_t values = 0;  // that differ
  std::string detail;
};

std::uint32_t bits(float value) {
  std::uint32_t word = 0;
  std::memcpy(&word, &value, sizeof word);
  return word;
}

// REQUIRES: both of one length. Two values that are not finite and not the same are infinitely far apart.
TensorDifference compare(std::string name, std::span<const float> a, std::span<const float> b) {
  TensorDifference difference{std::move(name), "equal", 0, 0, 0, ""};
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (bits(a[i]) == bits(b[i])) continue;
    ++difference.values;
    const double x = a[i];
    const double y = b[i];
    const bool is_finite = std::isfinite(x) && std::isfinite(y);
    const double absolute = is_finite ? std::fabs(x - y) : std::numeric_limits<double>::infinity();
    const double scale = std::max(std::fabs(x), std::fabs(y));
    difference.absolute = std::max(difference.absolute, absolute);
    difference.relative = std::max(difference.relative, !is_finite  ? absolute
                                                        : scale > 0 ? absolute / scale
                                                                    : 0.0);
  }
  if (difference.values != 0) difference.status = "differs";
  return difference;
}

TensorDifference mismatch(const std::string& name, const char* status, std::string detail = {}) {
  return {name, status, 0, 0, 0, std::move(detail)};
}

std::vector<TensorDifference> compare(const StateDict& a, const StateDict& b) {
  std::vector<TensorDifference> differences;
  for (const auto& entry : a.layout().entries()) {
    const auto* other = b.layout().find(entry.name);
    if (other == nullptr) {
      differences.push_back(mismatch(entry.name, "only in A"));
    } else if (other->shape != entry.shape) {
      differences.push_back(mismatch(entry.name, "shapes", entry.shape.str() + " and " + other->shape.str()));
    } else if (other->kind != entry.kind) {
      differences.push_back(mismatch(entry.name, "kinds", "a parameter and a buffer"));
    } else {
      differences.push_back(compare(entry.name, a.values(entry), b.values(*other)));
    }
  }
  for (const auto& entry : b.layout().entries()) {
    if (a.layout().find(entry.name) == nullptr) differences.push_back(mismatch(entry.name, "only in B"));
  }
  return differences;
}

Json to_json(const TensorDifference& difference) {
  Json json{{"name", difference.name}, {"status", difference.status}};
  if (!difference.detail.empty()) json["detail"] = difference.detail;
  if (difference.status == "differs") {
    json["values"] = difference.values;
    json["max_absolute"] = difference.absolute;
    json["max_relative"] = difference.relative;
  }
  return json;
}

std::string to_text(const TensorDifference& difference) {
  if (difference.status == "differs") {
    return fmt::format("differs in {} values, at most {:.4g} (relative {:.4g})", difference.values,
                       difference.absolute, difference.relative);
  }
  return difference.detail.empty() ? difference.status : difference.status + " differ: " + difference.detail;
}

}  // namespace

int diff(const Arguments& arguments) {
  const auto a = io::read_checkpoint(arguments.files[0]);
  const auto b = io::read_checkpoint(arguments.files[1]);
  const auto differences = compare(a.state, b.state);
  const auto unequal = std::count_if(differences.begin(), differences.end(),
                                     [](const TensorDifference& d) { return d.status != "equal"; });
  if (arguments.json) {
    Json tensors = Json::array();
    for (const auto& difference : differences) tensors.push_back(to_json(difference));
    print_json({{"equal", unequal == 0},
                {"a", {{"file", arguments.files[0].string()}, {"digest", a.digest}}},
                {"b", {{"file", arguments.files[1].string()}, {"digest", b.digest}}},
                {"tensors", tensors}});
    return unequal == 0 ? 0 : 1;
  }
  std::size_t width = 4;
  for (const auto& difference : differences) width = std::max(width, difference.name.size());
  for (const auto& difference : differences) {
    fmt::print("{:<{}}  {}\n", difference.name, width, to_text(difference));
  }
  if (unequal == 0) {
    fmt::print("equal bit for bit: {} tensors\n", differences.size());
  } else {
    fmt::print("different: {} of {} tensors\n", unequal, differences.size());
  }
  return unequal == 0 ? 0 : 1;
}

int verify(const Arguments& arguments) {
  Json files = Json::array();
  bool is_intact = true;
  for (const auto& file : arguments.files) {
    std::vector<io::Finding> findings;
    try {
      findings = io::verify_checkpoint(file);
    } catch (const Error& error) {
      findings.push_back({"/", error.what()});
    }
    is_intact = is_intact && findings.empty();
    if (arguments.json) {
      Json list = Json::array();
      for (const auto& finding : findings) {
        list.push_back({{"object", finding.object}, {"problem", finding.problem}});
      }
      files.push_back({{"file", file.string()}, {"intact", findings.empty()}, {"findings", list}});
    } else if (findings.empty()) {
      fmt::print("{}: intact\n", file.string());
    } else {
      fmt::print("{}: damaged\n", file.string());
      for (const auto& finding : findings) fmt::print("  {}: {}\n", finding.object, finding.problem);
    }
  }
  if (arguments.json) print_json(files);
  return is_intact ? 0 : 1;
}

}  // namespace impart::tool

// What the tests of combiners share: small models, and a combiner by its name and settings.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"
#include "impart/share/combine/combine.hpp"

namespace impart::testing_support {

/// Two parameters with a buffer between them, normally distributed.
inline StateDict random_state(std::uint64_t seed, const char* first = "a.weight") {
  StateDict state(std::make_shared<StateLayout>(std::vector<StateEntry>{
      {first, Shape{5, 4}}, {"b.running_mean", Shape{3}, StateKind::kBuffer}, {"c.bias", Shape{7}}}));
  for (const auto& entry : state.layout().entries()) {
    Rng rng(seed, "values", name_id(entry.name));
    for (auto& x : state.values(entry)) x = static_cast<float>(rng.normal());
  }
  return state;
}

inline std::unique_ptr<share::Combiner> make_combiner(std::string_view kind,
                                                      const SettingTable& settings = {}) {
  return read_settings(settings, "test",
                       [&](Settings& reader) { return share::combiners().make(reader, kind); });
}

inline bool equal_bits(const StateDict& a, const StateDict& b) {
  return std::ranges::equal(std::as_bytes(a.arena()), std::as_bytes(b.arena()));
}

/// The message of the Error that `work` throws; empty when it throws none.
template <class Work>
std::string error_of(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace impart::testing_support

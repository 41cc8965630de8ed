#include "impart/share/combine.hpp"

#include <string>

#include "impart/core/error.hpp"
#include "impart/share/combine/combine.hpp"

namespace impart::share {

std::vector<std::string_view> combiner_names() { return {"average", "weighted"}; }

CombineFunction find_combiner(std::string_view name) {
  if (name != "average" && name != "weighted") {
    throw Error("unknown way to combine models", ErrorKind::kUsage)
        .expected("one of average, weighted")
        .got("'" + std::string(name) + "'");
  }
  return [weighted = name == "weighted"](std::span<const StateDict* const> models,
                                         std::span<const double> weights) {
    SettingTable table;
    if (weighted) table.emplace_back("weight", std::vector<double>(weights.begin(), weights.end()));
    const auto linear = read_settings(
        table, "merge", [](Settings& settings) { return combiners().make(settings, "linear"); });
    return combine(*linear, models);
  };
}

}  // namespace impart::share

#include "impart/nn/zoo.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>
#include <utility>

#include "impart/core/error.hpp"
#include "impart/core/suggest.hpp"

namespace impart::nn {

namespace {

LayerSpec plain(std::string kind) { return {std::move(kind), "", {}}; }

LayerSpec conv(std::int64_t filters) {
  return {"conv2d", "", {{"filters", filters}, {"kernel", std::int64_t{3}}}};
}

LayerSpec pool() { return {"max_pool2d", "", {{"kernel", std::int64_t{2}}}}; }

LayerSpec dense(std::int64_t units) { return {"dense", "", {{"units", units}}}; }

std::vector<LayerSpec> cnn(int classes) {
  return {conv(32), plain("relu"), pool(),           conv(64),  plain("relu"), pool(),
          conv(64), plain("relu"), plain("flatten"), dense(64), plain("relu"), dense(classes)};
}

struct Entry {
  std::string_view name;
  std::vector<LayerSpec> (*layers)(int classes);
};

constexpr Entry kZoo[] = {{"cnn", cnn}};

}  // namespace

std::vector<std::string_view> zoo_names() {
  std::vector<std::string_view> names;
  for (const auto& entry : kZoo) names.push_back(entry.name);
  return names;
}

ModelSpec zoo_model(std::string_view name, const Shape& input, int classes) {
  for (const auto& entry : kZoo) {
    if (entry.name != name) continue;
    ModelSpec spec{std::string(name), input, classes, entry.layers(classes)};
    name_layers(spec);
    return spec;
  }
  const auto names = zoo_names();
  throw Error("unknown model", ErrorKind::kUsage)
      .expected(fmt::format("one of {}", fmt::join(names, ", ")))
      .got(fmt::format("'{}'", name))
      .hint(suggestion(name, names));
}

}  // namespace impart::nn

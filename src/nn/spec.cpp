#include "impart/nn/spec.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "impart/core/error.hpp"
#include "impart/core/suggest.hpp"
#include "impart/nn/layer.hpp"

namespace impart::nn {

namespace {

constexpr std::int64_t kMaxElements = std::int64_t{1} << 31;  // of one sample's activation, and of one tensor

std::string short_name(const std::string& kind) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 7> names{
      {{"conv2d", "conv"},
       {"max_pool2d", "pool"},
       {"avg_pool2d", "pool"},
       {"adaptive_avg_pool2d", "pool"},
       {"adaptive_max_pool2d", "pool"},
       {"global_avg_pool2d", "pool"},
       {"batch_norm", "bn"}}};
  for (const auto& [long_name, name] : names) {
    if (kind == long_name) return std::string(name);
  }
  return kind;
}

template <class T>
const T& member(const SettingTable& object, std::string_view key, std::string_view expected) {
  const auto* value = find_setting(object, key);
  if (value == nullptr) throw Error(fmt::format("there is no \"{}\"", key));
  if (const auto* typed = value->as<T>()) return *typed;
  throw Error(fmt::format("bad value of \"{}\"", key)).expected(std::string(expected)).got(value->describe());
}

std::vector<std::int64_t> integers_of(const SettingTable& object, std::string_view key) {
  std::vector<std::int64_t> integers;
  for (const auto& element : member<SettingArray>(object, key, "a list of integers")) {
    const auto* integer = element.as<std::int64_t>();
    if (integer == nullptr) throw Error(fmt::format("\"{}\" has other values than integers", key));
    integers.push_back(*integer);
  }
  return integers;
}

LayerSpec layer_from(const SettingValue& value) {
  const auto* object = value.as<SettingTable>();
  if (object == nullptr) throw Error("a layer is not an object").got(value.describe());
  LayerSpec layer;
  layer.kind = member<std::string>(*object, "kind", "text");
  layer.name = member<std::string>(*object, "name", "text");
  for (const auto& [key, setting] : *object) {
    if (key == "kind" || key == "name") continue;
    if (key != "from") {
      layer.settings.emplace_back(key, setting);
      continue;
    }
    for (const auto& name : member<SettingArray>(*object, key, "a list of names")) {
      if (name.as<std::string>() == nullptr) throw Error("`from` of a layer does not name layers");
      layer.from.push_back(*name.as<std::string>());
    }
  }
  return layer;
}

// Product of the extents, or -1 when an extent or the product is out of range.
std::int64_t checked_elements(const Shape& shape) {
  std::int64_t n = 1;
  for (const auto d : shape.dims()) {
    if (d < 1 || d > kMaxElements || n > kMaxElements / d) return -1;
    n *= d;
  }
  return n;
}

void check_input(const ModelSpec& spec) {
  const bool fits = spec.input.rank() >= 1 && spec.input.rank() <= 3 && checked_elements(spec.input) > 0 &&
                    std::all_of(spec.input.dims().begin(), spec.input.dims().end(),
                                [](std::int64_t d) { return d <= kMaxExtent; });
  if (!fits) {
    throw Error("bad value of `input`", ErrorKind::kUsage)
        .expected("(channels, height, width), (steps, features) or (features), each from 1 to " +
                  std::to_string(kMaxExtent))
        .got(spec.input.str());
  }
  if (spec.classes < 1 && spec.classes != kAnyOutput) {
    throw Error("bad value of `classes`", ErrorKind::kUsage)
        .expected("at least 1")
        .got(std::to_string(spec.classes));
  }
  if (spec.layers.empty()) throw Error("the model has no layers", ErrorKind::kUsage).hint("add `layers`");
}

// Names become paths in checkpoints ("/parameters/conv1.weight") and patterns in decks.
void check_name(const std::string& name) {
  const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  });
  if (!plain || name.empty() || name.front() == '.') {
    throw Error("bad name of a layer", ErrorKind::kUsage)
        .expected("letters, digits, '_', '-' and '.'")
        .got("\"" + name + "\"");
  }
}

Shape check_layer(const LayerSpec& layer, std::span<const Shape> inputs) {
  const auto made = make_layer(layer);
  Shape output = made->output_shape(inputs);
  if (checked_elements(output) < 0) {
    throw Error("the output is too large", ErrorKind::kUsage)
        .expected(fmt::format("at most {} values a sample", kMaxElements))
        .got(output.str());
  }
  for (const auto& parameter : made->parameters(inputs)) {
    if (checked_elements(parameter.shape) < 0) {
      throw Error(fmt::format("the {} is too large", parameter.name), ErrorKind::kUsage)
          .expected(fmt::format("at most {} values", kMaxElements))
          .got(parameter.shape.str());
    }
  }
  return output;
}

std::string where(const ModelSpec& spec) {
  return spec.name.empty() ? "model" : fmt::format("model '{}'", spec.name);
}

void check_names(const ModelSpec& spec) {
  std::set<std::string_view> names;
  for (const auto& layer : spec.layers) {
    check_name(layer.name);
    if (layer.name == kModelInput) {
      throw Error("a layer is called 'input', which is the name of the model's input", ErrorKind::kUsage);
    }
    if (!names.insert(layer.name).second) {
      throw Error(fmt::format("two layers are called '{}'", layer.name), ErrorKind::kUsage);
    }
  }
}

void check_all_read(const ModelSpec& spec, std::span<const std::vector<int>> inputs) {
  std::vector<bool> read(spec.layers.size());
  read.back() = true;
  for (const auto& layer : inputs) {
    for (const int from : layer) {
      if (from >= 0) read[static_cast<std::size_t>(from)] = true;
    }
  }
  const auto unread = std::find(read.begin(), read.end(), false);
  if (unread == read.end()) return;
  const auto& layer = spec.layers[static_cast<std::size_t>(unread - read.begin())];
  throw Error("no layer reads its output", ErrorKind::kUsage)
      .at(fmt::format("layer '{}' ({})", layer.name, layer.kind))
      .hint("name it in another layer's `from`, or remove it");
}

void check_output(const ModelSpec& spec, const Shape& output) {
  const auto rank = output.rank();
  if (spec.classes == kAnyOutput) return;
  if ((rank == 1 || rank == 2) && output[rank - 1] == spec.classes) return;
  throw Error("the last layer's output does not fit `classes`", ErrorKind::kUsage)
      .at(fmt::format("layer '{}' ({})", spec.layers.back().name, spec.layers.back().kind))
      .expected(std::to_string(spec.classes))
      .got(output.str())
      .hint(fmt::format("end with a dense layer of {} units", spec.classes));
}

std::vector<Shape> input_shapes(const ModelSpec& spec, std::span<const Shape> shapes,
                                std::span<const int> inputs) {
  std::vector<Shape> result;
  for (const int from : inputs)
    result.push_back(from < 0 ? spec.input : shapes[static_cast<std::size_t>(from)]);
  return result;
}

}  // namespace

bool is_synced(const LayerSpec& layer) {
  const auto* sync = find_setting(layer.settings, "sync");
  return layer.kind == "batch_norm" && sync != nullptr && *sync == SettingValue(true);
}

void name_layers(ModelSpec& spec) {
  std::set<std::string> taken;
  for (const auto& layer : spec.layers) taken.insert(layer.name);
  std::map<std::string, int> counts;
  for (auto& layer : spec.layers) {
    if (!layer.name.empty()) continue;
    const std::string stem = short_name(layer.kind);
    do {
      layer.name = stem + std::to_string(++counts[stem]);
    } while (taken.contains(layer.name));
  }
}

std::string to_json(const ModelSpec& spec) {
  SettingArray layers;
  for (const auto& layer : spec.layers) {
    SettingTable object{{"kind", layer.kind}, {"name", layer.name}};
    if (!layer.from.empty()) object.emplace_back("from", layer.from);
    for (const auto& [name, value] : layer.settings) put_setting(object, name, value);
    layers.emplace_back(std::move(object));
  }
  const auto dims = spec.input.dims();
  return impart::to_json(SettingTable{{"name", spec.name},
                                      {"input", std::vector<std::int64_t>(dims.begin(), dims.end())},
                                      {"classes", spec.classes},
                                      {"layers", std::move(layers)}});
}

ModelSpec model_spec_from_json(std::string_view text) {
  try {
    const auto value = setting_from_json(text);
    const auto* object = value.as<SettingTable>();
    if (object == nullptr) throw Error("not an object").got(value.describe());
    for (const auto& [key, ignored] : *object) {
      if (key != "name" && key != "input" && key != "classes" && key != "layers")
        throw Error(fmt::format("unknown member \"{}\"", key));
    }
    ModelSpec spec;
    spec.name = member<std::string>(*object, "name", "text");
    spec.input = Shape(integers_of(*object, "input"));
    const auto classes = member<std::int64_t>(*object, "classes", "an integer");
    if (!std::in_range<int>(classes)) throw Error("too many classes");
    spec.classes = static_cast<int>(classes);
    for (const auto& layer : member<SettingArray>(*object, "layers", "a list of layers"))
      spec.layers.push_back(layer_from(layer));
    return spec;
  } catch (Error& e) {
    e.at("the model's description");
    throw;
  }
}

std::vector<std::vector<int>> layer_inputs(const ModelSpec& spec) {
  std::map<std::string_view, int> known{{kModelInput, -1}};
  std::vector<std::vector<int>> inputs;
  int last = -1;
  for (const auto& layer : spec.layers) {
    auto& mine = inputs.emplace_back();
    if (layer.from.empty()) mine.push_back(last);
    for (const auto& name : layer.from) {
      const auto it = known.find(name);
      if (it == known.end()) {
        std::vector<std::string_view> names;
        for (const auto& [other, position] : known) names.push_back(other);
        throw Error(fmt::format("no earlier layer is called '{}'", name), ErrorKind::kUsage)
            .at(fmt::format("layer '{}' ({}), `from`", layer.name, layer.kind))
            .hint(suggestion(name, names));
      }
      mine.push_back(it->second);
    }
    known.emplace(layer.name, ++last);
  }
  return inputs;
}

std::vector<Shape> check_model(const ModelSpec& given) {
  ModelSpec spec = given;
  name_layers(spec);
  std::vector<Shape> shapes;
  try {
    check_input(spec);
    check_names(spec);
    const auto inputs = layer_inputs(spec);
    check_all_read(spec, inputs);
    for (std::size_t i = 0; i < spec.layers.size(); ++i) {
      const auto& layer = spec.layers[i];
      try {
        shapes.push_back(check_layer(layer, input_shapes(spec, shapes, inputs[i])));
      } catch (Error& e) {
        e.at(fmt::format("layer '{}' ({})", layer.name, layer.kind));
        throw;
      }
    }
    check_output(spec, shapes.back());
  } catch (Error& e) {
    e.at(where(spec));
    throw;
  }
  return shapes;
}

std::string head_of(const ModelSpec& given) {
  ModelSpec spec = given;
  name_layers(spec);
  const auto tensors = model_tensors(spec);
  for (std::size_t i = tensors.size(); i-- > 0;) {
    if (!tensors[i].empty()) return spec.layers[i].name;
  }
  throw Error("the model has no parameters", ErrorKind::kUsage).at(where(spec));
}

std::vector<std::vector<ParameterSpec>> model_tensors(const ModelSpec& spec) {
  const auto shapes = check_model(spec);
  const auto inputs = layer_inputs(spec);
  std::vector<std::vector<ParameterSpec>> tensors;
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    tensors.push_back(make_layer(spec.layers[i])->parameters(input_shapes(spec, shapes, inputs[i])));
  }
  return tensors;
}

}  // namespace impart::nn

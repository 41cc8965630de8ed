#include "impart/nn/spec.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "impart/core/error.hpp"
#include "impart/core/suggest.hpp"
#include "impart/nn/layer.hpp"
#include "nn/settings.hpp"

namespace impart::nn {

namespace {

using Json = nlohmann::ordered_json;  // settings keep the order of the deck

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

Json setting_to_json(const SettingValue& value) {
  return std::visit([](const auto& v) { return Json(v); }, value);
}

SettingValue setting_from_json(const std::string& name, const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (value.is_number_float()) return value.get<double>();
  if (value.is_string()) return value.get<std::string>();
  const auto whole = [](const Json& v) { return v.is_number_integer(); };
  if (value.is_array() && std::all_of(value.begin(), value.end(), whole)) {
    return value.get<std::vector<std::int64_t>>();
  }
  throw Error(fmt::format("bad value of `{}` in the model's description", name))
      .expected("a truth value, a number, text or integers")
      .got(value.dump());
}

const Json& member(const Json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end()) throw Error(fmt::format("the model's description has no \"{}\"", key));
  return *it;
}

LayerSpec layer_from_json(const Json& object) {
  if (!object.is_object())
    throw Error("a layer of the model's description is not an object").got(object.dump());
  LayerSpec layer;
  layer.kind = member(object, "kind").get<std::string>();
  layer.name = member(object, "name").get<std::string>();
  for (const auto& [key, value] : object.items()) {
    if (key == "kind" || key == "name") continue;
    if (key == "from") {
      layer.from = value.get<std::vector<std::string>>();
      continue;
    }
    layer.settings.emplace_back(key, setting_from_json(key, value));
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
  const std::pair<std::string, SettingValue> sync("sync", true);
  return layer.kind == "batch_norm" && std::ranges::find(layer.settings, sync) != layer.settings.end();
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
  Json json{
      {"name", spec.name}, {"input", Json::array()}, {"classes", spec.classes}, {"layers", Json::array()}};
  for (const auto d : spec.input.dims()) json["input"].push_back(d);
  for (const auto& layer : spec.layers) {
    Json object{{"kind", layer.kind}, {"name", layer.name}};
    if (!layer.from.empty()) object["from"] = layer.from;
    for (const auto& [name, value] : layer.settings) object[name] = setting_to_json(value);
    json["layers"].push_back(std::move(object));
  }
  return json.dump();
}

ModelSpec model_spec_from_json(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    if (!json.is_object()) throw Error("the model's description is not an object").got(json.type_name());
    for (const auto& [key, value] : json.items()) {
      if (key != "name" && key != "input" && key != "classes" && key != "layers") {
        throw Error(fmt::format("the model's description has an unknown member \"{}\"", key));
      }
    }
    ModelSpec spec;
    spec.name = member(json, "name").get<std::string>();
    spec.input = Shape(member(json, "input").get<std::vector<std::int64_t>>());
    spec.classes = member(json, "classes").get<int>();
    if (!member(json, "layers").is_array())
      throw Error("\"layers\" of the model's description is not a list");
    for (const auto& layer : json["layers"]) spec.layers.push_back(layer_from_json(layer));
    return spec;
  } catch (const nlohmann::json::exception& e) {
    throw Error("the model's description is not what impart writes").got(e.what());
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

#include "impart/parallel/tensor_plan.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <set>
#include <string_view>
#include <utility>

#include "impart/core/error.hpp"
#include "parallel/split_layers.hpp"

namespace impart::parallel {

namespace {

constexpr std::int64_t kLargestSuggestion = 64;

/// Layers that treat each channel by itself.
constexpr auto kChannelKinds =
    std::to_array<std::string_view>({"batch_norm", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d",
                                     "adaptive_max_pool2d", "global_avg_pool2d", "relu", "relu6",
                                     "leaky_relu", "gelu", "sigmoid", "tanh", "add", "flatten", "dropout"});

void set(nn::LayerSpec& layer, const std::string& name, nn::SettingValue value) {
  std::erase_if(layer.settings, [&](const auto& setting) { return setting.first == name; });
  layer.settings.emplace_back(name, std::move(value));
}

std::int64_t integer(const nn::LayerSpec& layer, const std::string& name, std::int64_t fallback) {
  for (const auto& [key, value] : layer.settings) {
    if (key == name) return std::get<std::int64_t>(value);
  }
  return fallback;
}

std::int64_t channels_of(const Shape& sample) {
  return sample.rank() == 3 ? sample[0] : sample[sample.rank() - 1];
}

/// Makes the local model, layer by layer.
class Planner {
 public:
  Planner(const nn::ModelSpec& named, nn::Part part, std::shared_ptr<TensorAxis> axis, bool split_classes)
      : whole_(named),
        split_classes_(split_classes),
        axis_(std::move(axis)),
        shapes_(nn::check_model(named)),
        inputs_(nn::layer_inputs(named)),
        tensors_(nn::model_tensors(named)) {
    plan_.part = part;
    plan_.local = named;
    plan_.local.layers.clear();
    for (const auto& layer : named.layers) names_.insert(layer.name);
  }

  TensorPlan plan() {
    if (ranks() == 1) {
      plan_.local = whole_;
      for (const auto& layer : whole_.layers) plan_.layers[layer.name] = LayerSplit::kWhole;
      return std::move(plan_);
    }
    for (std::size_t i = 0; i < whole_.layers.size(); ++i) {
      learns_.push_back(!tensors_[i].empty() || std::ranges::any_of(inputs_[i], [&](int k) {
        return k >= 0 && learns_[static_cast<std::size_t>(k)];
      }));
      plan_.layers[whole_.layers[i].name] = add(i);
    }
    if (split_classes_ && split_.back()) {
      plan_.local.classes /= static_cast<int>(ranks());
    } else {
      input(static_cast<int>(whole_.layers.size()) - 1, false);
    }
    find_slices();
    return std::move(plan_);
  }

 private:
  LayerSplit add(std::size_t i) {
    const auto& kind = whole_.layers[i].kind;
    if (kind == "conv2d" && integer(whole_.layers[i], "groups", 1) > 1) return add_grouped(i);
    if (kind == "conv2d" || kind == "dense") return add_product(i, kind == "dense" ? "units" : "filters");
    if (kind == "multi_head_attention") return add_attention(i);
    if (kind == "embedding") return add_embedding(i);
    if (kind == "group_norm") return add_group_norm(i);
    const bool by_channel = std::ranges::find(kChannelKinds, kind) != kChannelKinds.end();
    if (by_channel && reads_split(i) && !mixes_rows(i)) return add_channels(i);
    put(whole_.layers[i], i, false);
    split_.push_back(false);
    return LayerSplit::kWhole;
  }

  /// flatten makes the steps of a sequence features, and a part of each step's is not a part of all.
  [[nodiscard]] bool mixes_rows(std::size_t i) const {
    return whole_.layers[i].kind == "flatten" && shape_of(inputs_[i][0]).rank() == 2;
  }

  LayerSplit add_channels(std::size_t i) {
    auto layer = whole_.layers[i];
    if (layer.kind == "dropout") {
      layer.maker =
          maker([part = plan_.part](const nn::LayerSpec& spec) { return make_layer_part(spec, part); });
    }
    put(std::move(layer), i, true);
    split_.push_back(true);
    return LayerSplit::kChannels;
  }

  LayerSplit add_group_norm(std::size_t i) {
    auto layer = whole_.layers[i];
    const auto groups = integer(layer, "groups", 1);
    const bool splits = reads_split(i) && groups % ranks() == 0;
    if (splits) set(layer, "groups", groups / ranks());
    put(std::move(layer), i, splits);
    split_.push_back(splits);
    return splits ? LayerSplit::kChannels : LayerSplit::kWhole;
  }

  LayerSplit add_grouped(std::size_t i) {
    auto layer = whole_.layers[i];
    const auto groups = integer(layer, "groups", 1);
    require(i, "groups", {groups});
    set(layer, "groups", groups / ranks());
    set(layer, "filters", channels_of(shapes_[i]) / ranks());
    put(std::move(layer), i, true);
    split_.push_back(true);
    return LayerSplit::kChannels;
  }

  LayerSplit add_product(std::size_t i, const std::string& outputs) {
    auto layer = whole_.layers[i];
    const auto in = channels_of(shape_of(inputs_[i][0]));
    const auto out = channels_of(shapes_[i]);
    require(i, "channels", {out, in});
    const bool by_inputs = reads_split(i) || out % ranks() != 0;
    Joint joint;
    if (by_inputs) {
      joint = {.sum_outputs = true, .bias = tensors_[i].back().name == "bias"};
      set(layer, "bias", false);
      count_sum(plan_.traffic.forward, shapes_[i]);
    } else {
      joint = {.sum_gradients = true};
      set(layer, outputs, out / ranks());
      if (learns(inputs_[i][0])) count_sum(plan_.traffic.backward, shape_of(inputs_[i][0]));
    }
    layer.maker = maker([joint, axis = axis_](nn::LayerSpec spec) {
      spec.maker.reset();
      return make_joined(nn::make_layer(spec), joint, "bias", axis);
    });
    put(std::move(layer), i, by_inputs);
    split_.push_back(!by_inputs);
    return by_inputs ? LayerSplit::kInputs : LayerSplit::kOutputs;
  }

  LayerSplit add_attention(std::size_t i) {
    auto layer = whole_.layers[i];
    require(i, "heads", {integer(layer, "heads", 1)});
    layer.maker = maker([part = plan_.part, axis = axis_](const nn::LayerSpec& spec) {
      return make_joined(make_layer_part(spec, part),
                         {.sum_gradients = true, .sum_outputs = true, .bias = true}, "out_proj.bias", axis);
    });
    count_sum(plan_.traffic.forward, shapes_[i]);
    for (const int k : inputs_[i]) {
      if (learns(k)) count_sum(plan_.traffic.backward, shape_of(k));
    }
    put(std::move(layer), i, false);
    split_.push_back(false);
    return LayerSplit::kHeads;
  }

  LayerSplit add_embedding(std::size_t i) {
    auto layer = whole_.layers[i];
    const auto width = channels_of(shapes_[i]);
    const bool splits = width % ranks() == 0;
    if (splits) set(layer, "width", width / ranks());
    put(std::move(layer), i, false);
    split_.push_back(splits);
    return splits ? LayerSplit::kOutputs : LayerSplit::kWhole;
  }

  /// Appends layer `i` as `layer`, whose inputs are all split, or all whole.
  void put(nn::LayerSpec layer, std::size_t i, bool split_inputs) {
    layer.from.clear();
    for (const int k : inputs_[i]) layer.from.push_back(input(k, split_inputs));
    plan_.local.layers.push_back(std::move(layer));
  }

  /// The name under which to read the output of layer `k` (-1: the model's input) split or whole.
  std::string input(int k, bool split) {
    auto name = k < 0 ? std::string(nn::kModelInput) : whole_.layers[static_cast<std::size_t>(k)].name;
    if (is_split(k) == split) return name;
    auto& converted = converted_[k];
    if (!converted.empty()) return converted;
    converted = name + (split ? ".slice" : ".gather");
    while (!names_.insert(converted).second) converted += "_";
    count_gather(split ? plan_.traffic.backward : plan_.traffic.forward, shape_of(k), !split || learns(k));
    plan_.local.layers.push_back({split ? "tensor_slice" : "tensor_gather",
                                  converted,
                                  {},
                                  {name},
                                  maker([split, part = plan_.part, axis = axis_](const nn::LayerSpec&) {
                                    return split ? make_slice(part, axis) : make_gather(part, axis);
                                  })});
    return converted;
  }

  /// Every tensor that is smaller in the local model is so along one extent.
  void find_slices() {
    const auto local = nn::model_tensors(plan_.local);
    std::map<std::string_view, const std::vector<nn::ParameterSpec>*> of_layer;
    for (std::size_t i = 0; i < local.size(); ++i) of_layer[plan_.local.layers[i].name] = &local[i];
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      const auto& layer = whole_.layers[i];
      for (std::size_t k = 0; k < tensors_[i].size(); ++k) {
        const auto& whole = tensors_[i][k].shape;
        const auto& part = of_layer.at(layer.name)->at(k).shape;
        if (whole == part) continue;
        std::size_t axis = 0;
        while (whole[axis] == part[axis]) ++axis;
        const bool thrice = tensors_[i][k].name.starts_with("in_proj_");
        plan_.slices[layer.name + "." + tensors_[i][k].name] = {axis, thrice ? 3 : 1};
      }
    }
  }

  /// Throws unless the ranks divide one of the extents.
  void require(std::size_t i, const char* what, std::vector<std::int64_t> extents) const {
    if (std::ranges::any_of(extents, [&](std::int64_t n) { return n % ranks() == 0; })) return;
    std::ranges::sort(extents);
    throw Error(fmt::format("the tensor axis does not divide the {}", what), ErrorKind::kUsage)
        .at(fmt::format("layer '{}' ({})", whole_.layers[i].name, whole_.layers[i].kind))
        .expected(fmt::format("a divisor of {}", fmt::join(extents, " or ")))
        .got(std::to_string(ranks()));
  }

  static std::shared_ptr<const nn::LayerMaker> maker(nn::LayerMaker make) {
    return std::make_shared<const nn::LayerMaker>(std::move(make));
  }

  // As recursive halving and doubling, and as a ring, send them.
  void count_sum(double& bytes, const Shape& sample) const {
    bytes += 2 * share() * static_cast<double>(sample.elements()) * sizeof(float);
  }
  void count_gather(double& bytes, const Shape& sample, bool runs) const {
    if (runs) bytes += share() * static_cast<double>(sample.elements()) * sizeof(float);
  }
  [[nodiscard]] double share() const {
    return static_cast<double>(ranks() - 1) / static_cast<double>(ranks());
  }

  [[nodiscard]] std::int64_t ranks() const { return plan_.part.of; }
  [[nodiscard]] const Shape& shape_of(int k) const {
    return k < 0 ? whole_.input : shapes_[static_cast<std::size_t>(k)];
  }
  [[nodiscard]] bool is_split(int k) const { return k >= 0 && split_[static_cast<std::size_t>(k)]; }
  [[nodiscard]] bool learns(int k) const { return k >= 0 && learns_[static_cast<std::size_t>(k)]; }
  [[nodiscard]] bool reads_split(std::size_t i) const {
    return std::ranges::any_of(inputs_[i], [&](int k) { return is_split(k); });
  }

  const nn::ModelSpec& whole_;
  bool split_classes_;
  std::shared_ptr<TensorAxis> axis_;
  std::vector<Shape> shapes_;             // of each layer's output
  std::vector<std::vector<int>> inputs_;  // of each layer: layers
  std::vector<std::vector<nn::ParameterSpec>> tensors_;
  std::vector<bool> split_;               // whether each layer's output is
  std::vector<bool> learns_;              // whether it depends on parameters
  std::map<int, std::string> converted_;  // names of slices and gathers of layers' outputs
  std::set<std::string> names_;
  TensorPlan plan_;
};

/// The sizes of a tensor axis that the model allows, up to kLargestSuggestion.
std::vector<std::int64_t> fitting_sizes(const nn::ModelSpec& named) {
  std::vector<std::int64_t> sizes;
  for (std::int64_t n = 1; n <= kLargestSuggestion; ++n) {
    try {
      Planner(named, {0, n}, nullptr, false).plan();
      sizes.push_back(n);
    } catch (const Error&) {
      continue;  // does not fit
    }
  }
  return sizes;
}

}  // namespace

TensorPlan plan_tensors(const nn::ModelSpec& spec, nn::Part part, std::shared_ptr<TensorAxis> axis,
                        bool split_classes) {
  auto named = spec;
  nn::name_layers(named);
  nn::check_model(named);
  try {
    return Planner(named, part, std::move(axis), split_classes).plan();
  } catch (Error& e) {
    throw std::move(e.at(fmt::format("model '{}'", named.name)))
        .hint(fmt::format("tensor = {} would do", fmt::join(fitting_sizes(named), ", ")));
  }
}

}  // namespace impart::parallel

// [run], [dataset.*] and [model.*] of a deck; the stages are read in kinds.cpp and settings.cpp.

#include "impart/stages/deck.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "impart/core/error.hpp"
#include "impart/nn/layer.hpp"
#include "impart/nn/zoo.hpp"
#include "stages/kinds.hpp"
#include "stages/toml_reader.hpp"

namespace impart::stages {

namespace {

constexpr std::size_t kMaxName =
    200;  // file systems allow 255 bytes, and beside some names there are longer ones

// Names become directories and parts of metric names.
bool is_plain_name(std::string_view name) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  };
  return !name.empty() && name.front() != '.' && std::ranges::all_of(name, plain);
}

// Of the files that a run has beside its stages' directories; and of file systems.
void check_stage_name(const StageSettings& stage, const Deck& deck, Problems& problems) {
  static constexpr std::array<std::string_view, 4> taken{"run.json", "metrics.jsonl", "trace.json",
                                                         "report.html"};
  const auto& name = stage.name;
  if (!is_plain_name(name)) {
    problems.add(deck.places, stage.path,
                 fmt::format("expected a name of letters, digits, '_', '-' and '.', got '{}'", name));
  } else if (name.size() > kMaxName) {
    problems.add(deck.places, stage.path,
                 fmt::format("expected a name of at most {} letters, got {}", kMaxName, name.size()));
  } else if (std::ranges::find(taken, name) != taken.end()) {
    problems.add(deck.places, stage.path,
                 fmt::format("'{}' is the name of a file of the run: rename the stage", name));
  }
}

RunSettings read_run(TableReader table, const std::filesystem::path& deck) {
  RunSettings run;
  run.name = deck.stem().string();
  table.read("name", run.name);
  table.read("output", run.output);
  table.read("seed", run.seed);
  table.read("shards", run.shards, between(1, 4096));
  table.read("wisdom", run.wisdom);
  table.read("reproducible", run.reproducible);
  const auto overlap =
      table.choose_word("overlap", {comm::kOverlapNames.begin(), comm::kOverlapNames.end()}, 0);
  run.overlap = static_cast<comm::Overlap>(overlap);
  table.read("drift_check", run.drift_check, at_least(0));
  table.read("stall_warning", run.stall_warning, at_least(0));
  table.read("stall_abort", run.stall_abort, at_least(0));
  if (run.name.size() > kMaxName) {
    table.problem("name", fmt::format("expected at most {} letters, got {}", kMaxName, run.name.size()));
  } else if (!is_plain_name(run.name)) {
    table.problem("name", "expected a name of letters, digits, '_', '-' and '.', got '" + run.name + "'");
  }
  table.finish();
  return run;
}

void read_text(TableReader& table, DatasetSettings& dataset, const Deck& deck) {
  const auto extent = between(1, 1 << 20);
  table.read("context", dataset.context, extent);
  dataset.stride = dataset.context;
  table.read("stride", dataset.stride, extent);
  std::string vocabulary;
  table.read("vocabulary", vocabulary);
  if (!vocabulary.empty()) dataset.vocabulary = deck.resolve(vocabulary);
}

void read_files(TableReader& table, DatasetSettings& dataset, const Deck& deck) {
  std::vector<std::string> files;
  const auto one = [&](std::string_view key) {
    std::string file;
    if (table.require(key, file)) files.push_back(file);
  };
  switch (dataset.format) {
    case DataFormat::kIdx: {
      one("images");
      std::string labels;
      table.read("labels", labels);
      if (!labels.empty() && !files.empty()) files.push_back(labels);
      break;
    }
    case DataFormat::kCsv:
      one("file");
      table.read("header", dataset.header);
      table.read_name_or_number("label", dataset.label);
      break;
    case DataFormat::kCifar:
      table.require("files", files);
      break;
    case DataFormat::kHdf5:
      one("file");
      table.read("samples", dataset.samples);
      table.read("labels", dataset.labels);
      break;
    case DataFormat::kText:
      one("file");
      read_text(table, dataset, deck);
      break;
  }
  for (const auto& file : files) dataset.files.push_back(deck.resolve(file));
}

void read_separator(TableReader& table, DatasetSettings& dataset) {
  std::string separator(1, dataset.separator);
  table.read("separator", separator);
  if (separator.size() == 1) {
    dataset.separator = separator.front();
  } else {
    table.problem("separator", "expected one character, got \"" + separator + "\"");
  }
}

void read_split(TableReader& table, DatasetSettings& dataset) {
  const bool has_split = table.has("split");
  auto split = table.table("split");
  if (has_split) dataset.split = {0, 0, 0};
  for (std::size_t part = 0; part < kPartNames.size(); ++part) {
    split.read(kPartNames[part], dataset.split[part], between(0, 1));
  }
  split.finish();
  // Fractions such as 0.7 + 0.2 + 0.1 miss 1 by a rounding error.
  const double sum = std::accumulate(dataset.split.begin(), dataset.split.end(), 0.0);
  if (sum > 1 + 1e-9)
    table.problem("split", fmt::format("expected fractions that sum to at most 1, got {}", sum));
}

void read_limit(TableReader limit, DatasetSettings& dataset) {
  for (std::size_t part = 0; part < kPartNames.size(); ++part) {
    limit.read(kPartNames[part], dataset.limit[part], at_least(0));
  }
  limit.finish();
}

void read_resize(TableReader& table, DatasetSettings& dataset) {
  table.read("resize", dataset.resize);
  if (dataset.resize.rank() != 0 && dataset.resize.rank() != 2) {
    table.problem("resize", "expected [height, width], got " + dataset.resize.str());
    dataset.resize = {};
  }
}

void read_normalise(TableReader& table, DatasetSettings& dataset) {
  if (!table.is_table("normalise")) {
    table.read("normalise", dataset.normalise);
    return;
  }
  auto normalise = table.table("normalise");
  const bool complete =
      normalise.require("mean", dataset.mean) & normalise.require("deviation", dataset.deviation, above(0));
  normalise.finish();
  if (complete && dataset.mean.size() != dataset.deviation.size()) {
    table.problem("normalise", fmt::format("expected a mean and a deviation for each channel, got {} and {}",
                                           dataset.mean.size(), dataset.deviation.size()));
  }
}

DatasetSettings read_dataset(const std::string& name, TableReader table, const Deck& deck) {
  DatasetSettings dataset;
  dataset.name = name;
  if (!table.has("format")) table.missing("format");
  table.choose("format", dataset.format,
               {{"idx", DataFormat::kIdx},
                {"csv", DataFormat::kCsv},
                {"cifar", DataFormat::kCifar},
                {"hdf5", DataFormat::kHdf5},
                {"text", DataFormat::kText}});
  read_files(table, dataset, deck);
  if (dataset.format == DataFormat::kCsv) read_separator(table, dataset);
  const bool text = dataset.format == DataFormat::kText;
  if (dataset.format != DataFormat::kIdx && !text) table.read("shape", dataset.shape);

  const auto classes = between(2, 1 << 20);
  const bool has_no_labels = (dataset.format == DataFormat::kCsv && dataset.label.empty()) ||
                             (dataset.format == DataFormat::kHdf5 && dataset.labels.empty());
  if (dataset.format == DataFormat::kIdx || dataset.format == DataFormat::kCifar || has_no_labels) {
    table.read("classes", dataset.classes, classes);
  } else {
    table.require("classes", dataset.classes, classes);
  }
  read_split(table, dataset);
  if (text) {
    // Indices of characters are no quantities, and samples have no class.
    dataset.scale = 1;
    dataset.normalise = false;
  } else {
    read_limit(table.table("limit"), dataset);
    read_resize(table, dataset);
    table.read("scale", dataset.scale, above(0));
    read_normalise(table, dataset);
  }
  table.finish();
  dataset.resolved = table.resolved();
  return dataset;
}

// Problems of one layer are told at its own line.
bool check_layers(TableReader& table, const nn::ModelSpec& spec, const std::vector<std::string>& paths,
                  Problems& problems, const Places& places) {
  bool good = true;
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    try {
      nn::make_layer(spec.layers[i]);
    } catch (const Error& e) {
      problems.add(places, paths[i], e.what());
      good = false;
    }
  }
  if (!good) return false;
  try {
    nn::check_model(spec);
  } catch (const Error& e) {
    table.problem(table.has("layers") ? "layers" : "", e.what());
    return false;
  }
  return true;
}

// A model of the zoo: what else its table says are the model's settings.
bool read_arch(TableReader& table, nn::ModelSpec& spec, Deck& deck) {
  std::string arch;
  table.read("arch", arch);
  const auto settings = table.read_rest();
  if (arch.empty() || spec.classes < 1) return false;
  try {
    auto made = nn::zoo_model(arch, spec.input, spec.classes, settings);
    spec.input = std::move(made.input);
    spec.layers = std::move(made.layers);
    deck.architectures.emplace(spec.name, arch);
    return true;
  } catch (const Error& e) {
    table.problem("arch", e.what());
    return false;
  }
}

nn::ModelSpec read_model(const std::string& name, TableReader table, Deck& deck, Problems& problems) {
  nn::ModelSpec spec;
  spec.name = name;
  std::vector<std::string> layer_paths;
  const auto classes = between(1, 1 << 20);
  bool complete = table.require("classes", spec.classes, classes);
  if (table.has("arch")) {
    table.read("input", spec.input);  // a model of the zoo has one of its own
    complete &= read_arch(table, spec, deck);
    layer_paths.assign(spec.layers.size(), table.path());
  } else {
    complete &= table.require("input", spec.input);
    if (!table.has("layers")) table.problem("", "'layers' or 'arch' is missing");
    for (auto& layer : table.tables("layers")) {
      nn::LayerSpec made;
      layer.require("kind", made.kind);
      layer.read("name", made.name);
      layer.read("from", made.from);
      made.settings = layer.read_rest();
      layer_paths.push_back(layer.path());
      spec.layers.push_back(std::move(made));
    }
    if (table.has("layers") && spec.layers.empty()) table.problem("layers", "expected at least one layer");
    complete &= !spec.layers.empty();
    nn::name_layers(spec);
  }
  table.finish();
  if (!complete || !check_layers(table, spec, layer_paths, problems, deck.places)) spec.layers.clear();
  return spec;
}

}  // namespace

std::string_view part_name(Part part) {
  return part == Part::kAll ? "all" : kPartNames.at(static_cast<std::size_t>(part));
}

const DatasetSettings* Deck::find_dataset(std::string_view name) const {
  const auto found = std::ranges::find(datasets, name, &DatasetSettings::name);
  return found == datasets.end() ? nullptr : &*found;
}

const nn::ModelSpec* Deck::find_model(std::string_view name) const {
  const auto found = std::ranges::find(models, name, &nn::ModelSpec::name);
  return found == models.end() ? nullptr : &*found;
}

nn::ObjectiveKind Deck::objective_of(const std::string& model) const {
  const auto arch = architectures.find(model);
  if (arch == architectures.end()) return nn::ObjectiveKind::kCrossEntropy;
  const auto names = nn::objective_names();
  const auto chosen = std::ranges::find(names, nn::zoo_objective(arch->second));
  return static_cast<nn::ObjectiveKind>(chosen - names.begin());
}

std::filesystem::path Deck::run_directory() const { return std::filesystem::path(run.output) / run.name; }

std::filesystem::path Deck::resolve(const std::string& file) const {
  return (path.parent_path() / file).lexically_normal();
}

comm::MeshShape mesh_of(const StageSettings& stage) {
  return std::visit(
      [](const auto& settings) {
        if constexpr (requires { settings.training; }) return settings.training.mesh;
        return comm::MeshShape{};
      },
      stage.settings);
}

bool is_checkpoint_file(std::string_view reference) { return reference.ends_with(".h5"); }

Deck read_deck(const std::string& text, const std::filesystem::path& path,
               const std::vector<std::string>& overrides, Problems& problems) {
  Deck deck;
  deck.path = path;
  deck.overrides = overrides;
  auto root = read_toml(text, path, overrides, deck.places, problems);
  if (!root) return deck;
  deck.run = read_run(root->table("run"), path);
  for (auto& [name, table] : root->named_tables("dataset")) {
    deck.datasets.push_back(read_dataset(name, table, deck));
  }
  for (auto& [name, table] : root->named_tables("model")) {
    deck.models.push_back(read_model(name, table, deck, problems));
  }
  if (!root->has("stage")) root->problem("", "the deck has no [[stage]]");
  for (auto& table : root->tables("stage")) {
    auto stage = read_stage(table, deck);
    if (!stage) continue;
    check_stage_name(*stage, deck, problems);
    const auto twin = std::ranges::find(deck.stages, stage->name, &StageSettings::name);
    if (twin != deck.stages.end()) {
      problems.add(deck.places, stage->path,
                   fmt::format("two stages are called '{}'; the other is at {}", stage->name,
                               deck.places.find(twin->path).text));
      continue;
    }
    deck.stages.push_back(std::move(*stage));
  }
  root->finish();
  return deck;
}

}  // namespace impart::stages

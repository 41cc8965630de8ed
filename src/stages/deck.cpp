#include "impart/stages/deck.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "impart/core/error.hpp"
#include "impart/deck/toml.hpp"
#include "impart/nn/layer.hpp"
#include "impart/nn/zoo.hpp"
#include "impart/stages/stage.hpp"

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

/// Why that cannot be a name; empty when it can.
std::string why_not_name(const std::string& name) {
  if (name.size() > kMaxName)
    return fmt::format("expected a name of at most {} letters, got {}", kMaxName, name.size());
  if (!is_plain_name(name))
    return fmt::format("expected a name of letters, digits, '_', '-' and '.', got '{}'", name);
  return "";
}

// Of the files that a run has beside its stages' directories.
std::string why_not_stage_name(const std::string& name) {
  static constexpr std::array<std::string_view, 4> taken{"run.json", "metrics.jsonl", "trace.json",
                                                         "report.html"};
  if (std::ranges::find(taken, name) != taken.end())
    return fmt::format("'{}' is the name of a file of the run: rename the stage", name);
  return why_not_name(name);
}

// Problems of one layer are told at its own line.
nn::SettingList list_of(const SettingTable& table) {
  nn::SettingList list;
  for (const auto& [name, value] : table) {
    if (const auto* v = value.as<bool>()) list.emplace_back(name, *v);
    if (const auto* v = value.as<std::int64_t>()) list.emplace_back(name, *v);
    if (const auto* v = value.as<double>()) list.emplace_back(name, *v);
    if (const auto* v = value.as<std::string>()) list.emplace_back(name, *v);
    if (const auto* v = value.as<SettingArray>()) {
      std::vector<std::int64_t> integers;
      for (const auto& element : *v)
        if (const auto* i = element.as<std::int64_t>()) integers.push_back(*i);
      list.emplace_back(name, std::move(integers));
    }
  }
  return list;
}

bool check_layers(Settings& settings, const nn::ModelSpec& spec, const std::vector<std::string>& paths,
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
    settings.problem(settings.has("layers") ? "layers" : "", e.what());
    return false;
  }
  return true;
}

// A model of the zoo: what else its table says are the model's settings.
bool read_arch(Settings& settings, nn::ModelSpec& spec, Deck& deck) {
  std::string arch;
  settings.read("arch", arch, "");
  const auto rest = settings.rest();
  if (arch.empty() || spec.classes < 1) return false;
  try {
    auto made = nn::zoo_model(arch, spec.input, spec.classes, list_of(rest));
    spec.input = std::move(made.input);
    spec.layers = std::move(made.layers);
    deck.architectures.emplace(spec.name, arch);
    return true;
  } catch (const Error& e) {
    settings.problem("arch", e.what());
    return false;
  }
}

nn::ModelSpec read_model(const std::string& name, Settings settings, Deck& deck, Problems& problems) {
  nn::ModelSpec spec;
  spec.name = name;
  std::vector<std::string> layer_paths;
  bool complete = settings.require("classes", spec.classes, between(1, 1 << 20), "");
  if (settings.has("arch")) {
    settings.read("input", spec.input, "");  // a model of the zoo has one of its own
    complete &= read_arch(settings, spec, deck);
    layer_paths.assign(spec.layers.size(), settings.path());
  } else {
    complete &= settings.require("input", spec.input, "");
    if (!settings.has("layers")) settings.problem("", "'layers' or 'arch' is missing");
    for (auto& layer : settings.tables("layers")) {
      nn::LayerSpec made;
      layer.require("kind", made.kind, "");
      layer.read("name", made.name, "");
      layer.read("from", made.from, "");
      made.settings = list_of(layer.rest());
      layer_paths.push_back(layer.path());
      spec.layers.push_back(std::move(made));
    }
    if (settings.has("layers") && spec.layers.empty())
      settings.problem("layers", "expected at least one layer");
    complete &= !spec.layers.empty();
    nn::name_layers(spec);
  }
  settings.finish();
  if (!complete || !check_layers(settings, spec, layer_paths, problems, deck.places)) spec.layers.clear();
  return spec;
}

void read_stages(Settings& root, Deck& deck, Problems& problems) {
  for (auto& settings : root.tables("stage")) {
    auto stage = read_stage(settings, deck);
    if (stage == nullptr) continue;
    if (const auto why = why_not_stage_name(stage->name()); !why.empty())
      problems.add(deck.places, stage->path(), why);
    if (const auto* twin = deck.find_stage(stage->name())) {
      problems.add(deck.places, stage->path(),
                   fmt::format("two stages are called '{}'; the other is at {}", stage->name(),
                               deck.places.find(twin->path()).text));
      continue;
    }
    deck.stages.push_back(std::move(stage));
  }
}

}  // namespace

void read_run(Settings& settings, RunSettings& run) {
  settings.read("name", run.name, "of the run directory; the deck's own name");
  settings.read("output", run.output, "directory in which the run directory is made");
  settings.read("seed", run.seed, "of all random draws");
  settings.read(
      "shards", run.shards, between(1, 4096).in("shards"),
      "equal parts of a batch, whose gradients are summed in one fixed order; the ranks must divide them");
  settings.read(
      "wisdom", run.wisdom,
      "a file that `impart bench --tune` has written on such a machine: its kernels; empty: the fixed rule");
  settings.read("reproducible", run.reproducible,
                "false: ranks add their gradients in any order, so that the bits depend on their number");
  auto overlap = static_cast<std::size_t>(run.overlap);
  settings.choose_word(
      "overlap", overlap, {comm::kOverlapNames.begin(), comm::kOverlapNames.end()},
      "who sums gradients over ranks during the backward pass; auto tries all in the first steps");
  run.overlap = static_cast<comm::Overlap>(overlap);
  settings.read("drift_check", run.drift_check, at_least(0).in("steps"),
                "from one check that all ranks have the same weights to the next; 0: never");
  settings.read("stall_warning", run.stall_warning, at_least(0).in("seconds"),
                "of waiting after which the ranks that keep others waiting are named; 0: never");
  settings.read("stall_abort", run.stall_abort, at_least(0).in("seconds"),
                "of waiting after which the job ends; 0: never");
  if (const auto why = why_not_name(run.name); !why.empty()) settings.problem("name", why);
  settings.finish();
}

const DatasetEntry* Deck::find_dataset(std::string_view name) const {
  const auto found = std::ranges::find(datasets, name, &DatasetEntry::name);
  return found == datasets.end() ? nullptr : &*found;
}

const nn::ModelSpec* Deck::find_model(std::string_view name) const {
  const auto found = std::ranges::find(models, name, &nn::ModelSpec::name);
  return found == models.end() ? nullptr : &*found;
}

const Stage* Deck::find_stage(std::string_view name) const {
  const auto found =
      std::ranges::find(stages, name, [](const auto& stage) -> const std::string& { return stage->name(); });
  return found == stages.end() ? nullptr : found->get();
}

std::string_view Deck::objective_of(const std::string& model) const {
  const auto arch = architectures.find(model);
  return arch == architectures.end() ? "cross_entropy" : nn::zoo_objective(arch->second);
}

std::filesystem::path Deck::run_directory() const { return std::filesystem::path(run.output) / run.name; }

std::filesystem::path Deck::resolve(const std::string& file) const {
  return (path.parent_path() / file).lexically_normal();
}

bool is_checkpoint_file(std::string_view reference) { return reference.ends_with(".h5"); }

Deck read_deck(const std::string& text, const std::filesystem::path& path,
               const std::vector<std::string>& overrides, Problems& problems, DeckUse use) {
  Deck deck;
  deck.path = path;
  deck.overrides = overrides;
  const auto document = deck::read_toml(text, path, overrides, deck.places, problems);
  if (!document) return deck;
  Settings root(*document, "", deck.places, problems);
  deck.run.name = path.stem().string();
  auto run = root.table("run");
  read_run(run, deck.run);
  const auto resolve = [&](const std::string& file) { return deck.resolve(file); };
  for (auto& [name, settings] : root.named_tables("dataset")) {
    auto read = data::read_dataset_settings(settings, resolve);
    deck.datasets.push_back({name, std::move(read), to_json(settings.resolved())});
  }
  for (auto& [name, settings] : root.named_tables("model")) {
    deck.models.push_back(read_model(name, settings, deck, problems));
  }
  if (!root.has("stage") && use == DeckUse::kRun) root.problem("", "the deck has no [[stage]]");
  read_stages(root, deck, problems);
  root.finish();
  return deck;
}

}  // namespace impart::stages

#include "impart/data/dataset_settings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "impart/core/error.hpp"
#include "impart/data/dataset.hpp"

namespace impart::data {

namespace {

/// Null when the format is missing or unknown, which is a problem.
io::DataFormatPtr read_format(Settings& settings, const io::PathResolver& resolve) {
  const auto& formats = io::data_formats();
  std::size_t chosen = 0;
  const bool is_there = settings.has("format");
  const bool good = settings.choose_word("format", chosen, formats.names(), "how the files are stored");
  if (!is_there) settings.missing("format");
  return good && is_there ? formats.entries()[chosen].make(settings, resolve) : nullptr;
}

void read_split(Settings& settings, DatasetSettings& dataset) {
  const bool is_there = settings.has("split");
  auto split = settings.table("split");
  if (is_there) dataset.split = {0, 0, 0};
  for (std::size_t part = 0; part < kPartNames.size(); ++part) {
    split.read(kPartNames[part], dataset.split[part], between(0, 1),
               "fraction of the samples; 0 when another part has one");
  }
  split.finish();
  // Fractions such as 0.7 + 0.2 + 0.1 miss 1 by a rounding error.
  const double sum = std::accumulate(dataset.split.begin(), dataset.split.end(), 0.0);
  if (sum > 1 + 1e-9)
    settings.problem("split", fmt::format("expected fractions that sum to at most 1, got {}", sum));
}

void read_limit(Settings limit, DatasetSettings& dataset) {
  for (std::size_t part = 0; part < kPartNames.size(); ++part) {
    limit.read(kPartNames[part], dataset.limit[part], at_least(0).in("samples"),
               "of each class that the part keeps; 0: all");
  }
  limit.finish();
}

void read_resize(Settings& settings, DatasetSettings& dataset) {
  settings.read("resize", dataset.resize, "[height, width] of images; empty: not resized");
  if (dataset.resize.rank() != 0 && dataset.resize.rank() != 2) {
    settings.problem("resize", "expected [height, width], got " + dataset.resize.str());
    dataset.resize = {};
  }
}

void read_normalise(Settings& settings, DatasetSettings& dataset) {
  if (!settings.is_table("normalise")) {
    settings.read("normalise", dataset.normalise,
                  "by mean and standard deviation of each channel of the training part; or { mean, std }");
  }
  if (!settings.is_table("normalise") && !settings.is_documenting()) return;
  auto normalise = settings.table("normalise");
  normalise.renamed("deviation", "std");
  const auto before = settings.problem_count();
  const bool has_mean = normalise.require("mean", dataset.mean, any_number(), "of each channel, when scaled");
  const bool complete = normalise.require("std", dataset.std, above(0), "of each channel") && has_mean;
  normalise.finish();
  if (complete && settings.problem_count() == before && dataset.mean.size() != dataset.std.size()) {
    settings.problem("normalise", fmt::format("expected a mean and a std for each channel, got {} and {}",
                                              dataset.mean.size(), dataset.std.size()));
  }
}

}  // namespace

std::string_view part_name(Part part) {
  return part == Part::kAll ? "all" : kPartNames.at(static_cast<std::size_t>(part));
}

DatasetSettings read_dataset_settings(Settings& settings, const io::PathResolver& resolve) {
  DatasetSettings dataset;
  dataset.format = read_format(settings, resolve);
  const auto traits = dataset.format == nullptr ? io::DataTraits{} : dataset.format->traits();
  const auto classes = between(2, 1 << 20);
  constexpr std::string_view kClasses =
      "how many there are; csv, hdf5 and text must say it, when they have labels";
  if (dataset.format != nullptr && traits.labels && !traits.names_classes) {
    settings.require("classes", dataset.classes, classes, kClasses);
  } else {
    settings.read("classes", dataset.classes, classes, kClasses);
  }
  read_split(settings, dataset);
  if (traits.text) {
    dataset.normalise = false;
  } else {
    read_limit(settings.table("limit"), dataset);
    read_resize(settings, dataset);
    settings.read("scale", dataset.scale, above(0), "1/255 of bytes, 1 of numbers", "of the stored values");
    read_normalise(settings, dataset);
  }
  if (dataset.format == nullptr) settings.rest();  // nobody can say what is wrong with its settings
  settings.finish();
  return dataset;
}

Shape check_samples(const DatasetSettings& settings, const io::SampleInfo& info) {
  const auto characters = static_cast<int>(info.vocabulary.size());
  if (settings.format->traits().text && settings.classes != characters) {
    throw Error("`classes` is not the number of characters")
        .expected(fmt::format("{}, the distinct bytes of the {}", characters,
                              settings.format->files().size() == 1 ? "text" : "vocabulary"))
        .got(std::to_string(settings.classes));
  }
  const bool limited = std::ranges::any_of(settings.limit, [](std::int64_t n) { return n != 0; });
  if (limited && info.labels_per_sample == 0) throw Error("`limit` counts labels, and there are none");
  auto shape = info.shape;
  if (settings.resize.rank() == 2) {
    if (shape.rank() != 3) {
      throw Error("only images can be resized").expected("samples of shape (C, H, W)").got(shape.str());
    }
    shape = Shape{shape[0], settings.resize[0], settings.resize[1]};
  }
  const auto channels = static_cast<std::size_t>(channels_of(shape));
  if (!settings.mean.empty() && settings.mean.size() != channels) {
    throw Error("`normalise` does not fit the channels")
        .expected(fmt::format("{} means and deviations for samples of {}", channels, shape.str()))
        .got(std::to_string(settings.mean.size()));
  }
  return shape;
}

}  // namespace impart::data

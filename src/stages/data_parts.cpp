// From the files of a dataset to parts that a network can take.

#include <fmt/format.h>

#include <numeric>

#include "impart/core/error.hpp"
#include "impart/data/partition.hpp"
#include "impart/stages/run_context.hpp"
#include "stages/data_source.hpp"

namespace impart::stages {

namespace {

// The samples of each part, by their indices in the whole dataset. The same on every rank.
std::array<data::Indices, 3> split_and_limit(const DatasetSettings& settings, const data::DatasetPtr& base) {
  std::array<data::Indices, 3> parts;
  const std::vector<double> fractions(settings.split.begin(), settings.split.end());
  // The windows of a text overlap, and what stands side by side is alike: what is not trained on must be text
  // from elsewhere (as char-rnn and nanoGPT do).
  const bool text = settings.format == DataFormat::kText;
  auto split = text ? data::split_in_order(*base, fractions, settings.context / settings.stride)
                    : data::split_by_digest(*base, fractions);
  for (std::size_t part = 0; part < parts.size(); ++part) {
    parts[part] = std::move(split[part]);
    if (settings.limit[part] == 0 || parts[part].empty()) continue;
    const auto whole = data::subset(base, parts[part]);
    try {
      auto kept = data::limit_per_class(*whole, settings.limit[part]);
      for (auto& index : kept) index = parts[part][static_cast<std::size_t>(index)];
      parts[part] = std::move(kept);
    } catch (Error& e) {
      e.at(fmt::format("limit.{}", kPartNames[part]));
      throw;
    }
  }
  return parts;
}

std::string fingerprint_of(const data::Dataset& dataset, const std::string& vocabulary) {
  const auto samples = data::fingerprint(dataset);
  // Equal indices may be other characters.
  return vocabulary.empty() ? samples.hex() : Hasher().text(samples.hex()).text(vocabulary).finish().hex();
}

}  // namespace

const data::DatasetPtr& DataParts::part(Part which) const {
  return which == Part::kAll ? all : parts[static_cast<std::size_t>(which)];
}

DataParts read_parts(const comm::Comm& comm, const DatasetSettings& settings) {
  const auto what = "dataset." + settings.name;
  std::unique_ptr<io::SampleSource> source;
  comm::agree(comm, what, [&] { source = open_source(settings); });
  const auto base = data::read_dataset(comm, *source, what, settings.classes);
  const bool bytes = source->info().element == io::ElementType::kUint8;
  const double scale = settings.scale.value_or(bytes ? 1.0 / 255.0 : 1.0);

  DataParts result;
  std::array<data::DatasetPtr, 3> parts;
  auto all = base;
  comm::agree(comm, what, [&] {
    result.fingerprint = comm.is_root() ? fingerprint_of(*base, source->info().vocabulary) : "";
    auto indices = split_and_limit(settings, base);
    for (std::size_t part = 0; part < parts.size(); ++part) {
      if (!indices[part].empty()) parts[part] = data::subset(base, std::move(indices[part]));
    }
    if (settings.resize.rank() != 2) return;
    for (auto* set : {&all, &parts[0], &parts[1], &parts[2]}) {
      if (*set != nullptr) *set = data::resize(*set, settings.resize[0], settings.resize[1]);
    }
  });
  comm.broadcast(result.fingerprint, 0, "fingerprint");

  data::Encoding encoding;
  encoding.vocabulary = source->info().vocabulary;
  encoding.normalisation = {scale, settings.mean, settings.deviation};
  if (settings.normalise && settings.mean.empty() && parts[0] != nullptr)
    encoding.normalisation = data::channel_statistics(comm, *parts[0], scale);
  const auto finish = [&](const data::DatasetPtr& set) {
    return set == nullptr ? nullptr : data::encode(set, encoding);
  };
  for (std::size_t part = 0; part < parts.size(); ++part) result.parts[part] = finish(parts[part]);
  result.all = finish(all);
  return result;
}

}  // namespace impart::stages

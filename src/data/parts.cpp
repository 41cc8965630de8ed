#include "impart/data/parts.hpp"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "impart/core/error.hpp"
#include "impart/data/partition.hpp"

namespace impart::data {

namespace {

// The samples of each part, by their indices in the whole data set. The same on every rank.
std::array<Indices, 3> split_and_limit(const DatasetSettings& settings, const DatasetPtr& base) {
  std::array<Indices, 3> parts;
  const std::vector<double> fractions(settings.split.begin(), settings.split.end());
  const auto gap = settings.format->traits().gap;
  auto split = gap ? split_in_order(*base, fractions, *gap) : split_by_digest(*base, fractions);
  for (std::size_t part = 0; part < parts.size(); ++part) {
    parts[part] = std::move(split[part]);
    if (settings.limit[part] == 0 || parts[part].empty()) continue;
    const auto whole = subset(base, parts[part]);
    try {
      auto kept = limit_per_class(*whole, settings.limit[part]);
      for (auto& index : kept) index = parts[part][static_cast<std::size_t>(index)];
      parts[part] = std::move(kept);
    } catch (Error& e) {
      e.at(fmt::format("limit.{}", kPartNames[part]));
      throw;
    }
  }
  return parts;
}

std::string fingerprint_of(const Dataset& dataset, const std::string& vocabulary) {
  const auto samples = fingerprint(dataset);
  // Equal indices may be other characters.
  return vocabulary.empty() ? samples.hex() : Hasher().text(samples.hex()).text(vocabulary).finish().hex();
}

}  // namespace

DataParts read_parts(const comm::Comm& comm, const std::string& what, const DatasetSettings& settings) {
  std::unique_ptr<io::SampleSource> source;
  comm::agree(comm, what, [&] { source = settings.format->open(); });
  const auto& info = source->info();
  const auto base = read_dataset(comm, *source, what, settings.classes);

  DataParts result;
  std::array<DatasetPtr, 3> parts;
  auto all = base;
  comm::agree(comm, what, [&] {
    result.fingerprint = comm.is_root() ? fingerprint_of(*base, info.vocabulary) : "";
    auto indices = split_and_limit(settings, base);
    for (std::size_t part = 0; part < parts.size(); ++part) {
      if (!indices[part].empty()) parts[part] = subset(base, std::move(indices[part]));
    }
    if (settings.resize.rank() != 2) return;
    for (auto* set : {&all, &parts[0], &parts[1], &parts[2]}) {
      if (*set != nullptr) *set = resize(*set, settings.resize[0], settings.resize[1]);
    }
  });
  comm.broadcast(result.fingerprint, 0, "fingerprint");

  const double scale = settings.scale.value_or(io::default_scale(settings.format->traits(), info.element));
  Encoding encoding{{scale, settings.mean, settings.std}, info.vocabulary};
  if (settings.normalise && settings.mean.empty() && parts[0] != nullptr)
    encoding.normalisation = channel_statistics(comm, *parts[0], scale);
  const auto finish = [&](const DatasetPtr& set) { return set == nullptr ? nullptr : encode(set, encoding); };
  for (std::size_t part = 0; part < parts.size(); ++part) result.parts[part] = finish(parts[part]);
  result.all = finish(all);
  return result;
}

}  // namespace impart::data

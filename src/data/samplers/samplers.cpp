#include "data/samplers/samplers.hpp"

#include "impart/core/error.hpp"

namespace impart::data {

namespace {

constexpr Registry<SamplerPtr>::Entry kSamplers[] = {
    {"shuffled", "each sample once an epoch, in a new order in each", make_shuffled},
    {"sequential", "each sample once an epoch, in the order of the data", make_sequential},
};

}  // namespace

std::int64_t steps_per_epoch(std::int64_t samples, std::int64_t batch_size) {
  return (samples + batch_size - 1) / batch_size;
}

const Registry<SamplerPtr>& samplers() {
  static const Registry<SamplerPtr> registry("sampler", kSamplers);
  return registry;
}

SamplerPtr make_sampler(std::string_view kind) {
  auto settings = Settings::defaults();
  return samplers().get(kind).make(settings);
}

void Sampler::check(std::int64_t labels_per_sample) const {
  if (!traits().one_label || labels_per_sample == 1) return;
  throw Error("this sampler goes by the class of a sample", ErrorKind::kUsage)
      .at("sampler")
      .expected("samples with one label each")
      .got(std::to_string(labels_per_sample));
}

}  // namespace impart::data

#include "impart/train/recalibration.hpp"

#include <algorithm>
#include <vector>

#include "impart/data/batch_loader.hpp"

namespace impart::train {

namespace {

/// The same model, whose batch norms forget all they knew at each batch.
nn::ModelSpec without_memory(nn::ModelSpec spec) {
  for (auto& layer : spec.layers) {
    if (layer.kind != "batch_norm") continue;
    std::erase_if(layer.settings, [](const auto& setting) { return setting.first == "momentum"; });
    layer.settings.emplace_back("momentum", 1.0);
  }
  return spec;
}

}  // namespace

void recalibrate_batch_norm(const comm::Comm& comm, const nn::ModelSpec& spec, const nn::Objective& objective,
                            const EngineOptions& options, const data::DatasetPtr& data, StateDict& state) {
  if (state.buffers().empty()) return;
  GradientEngine engine(comm, without_memory(spec), objective, options);
  data::BatchLoader loader(data, {options.batch_size,
                                  options.shards,
                                  engine.range(),
                                  options.seed,
                                  data::make_sampler("sequential"),
                                  {}});
  const auto batches = std::max<std::int64_t>(1, data->size() / options.batch_size);
  std::vector<double> sums(state.buffers().size());
  for (std::int64_t i = 0; i < batches; ++i) {
    engine.compute(state, loader.next(), false);
    const auto changes = engine.gradient().buffers();
    for (std::size_t k = 0; k < sums.size(); ++k) sums[k] += static_cast<double>(changes[k]);
  }
  const auto buffers = state.buffers();
  for (std::size_t k = 0; k < sums.size(); ++k) {
    buffers[k] = static_cast<float>(static_cast<double>(buffers[k]) + sums[k] / static_cast<double>(batches));
  }
}

}  // namespace impart::train

// transformer: a model of the next word of a sequence (Vaswani et al. 2017, the decoder without a memory),
// with the norms in front (Xiong et al. 2020). Parameters have the names of PyTorch's TransformerEncoder.
#include <fmt/format.h>

#include "nn/zoo/zoo_models.hpp"

namespace impart::nn {

namespace {

struct Block {
  std::int64_t width;
  std::int64_t heads;
  std::int64_t ff;
  double dropout;
};

/// Appends one block that reads the layer `x`, and returns its last layer.
std::string add_block(ZooModel& model, const Block& block, const std::string& name, const std::string& x) {
  const auto part = [&](const char* what) { return fmt::format("{}.{}", name, what); };
  const auto dense = [&](const char* what, std::int64_t units) {
    return model.add("dense", part(what), {{"units", units}, {"init", std::string("glorot")}});
  };
  const auto drop = [&](const char* what) {
    if (block.dropout > 0) model.add("dropout", part(what), {{"rate", block.dropout}});
    return model.layers.back().name;
  };
  model.add("layer_norm", part("norm1"), {}, {x});
  model.add("multi_head_attention", part("self_attn"),
            {{"heads", block.heads}, {"causal", true}, {"dropout", block.dropout}});
  const auto attended = model.add("add", part("add1"), {}, {x, drop("dropout1")});
  model.add("layer_norm", part("norm2"));
  dense("linear1", block.ff);
  model.add("gelu", part("activation"));
  drop("dropout");
  dense("linear2", block.width);
  return model.add("add", part("add2"), {}, {attended, drop("dropout2")});
}

}  // namespace

ZooModel transformer(const Settings& settings, int classes) {
  const auto width = settings.integer_or("width", 128, 1, kMaxExtent);
  const Block block{.width = width,
                    .heads = settings.integer_or("heads", 4, 1, kMaxExtent),
                    .ff = settings.integer_or("ff", 4 * width, 1, kMaxExtent),
                    .dropout = settings.number_or("dropout", 0, 0, 1)};
  ZooModel model{{settings.integer_or("context", 64, 1, kMaxExtent)}, {}};
  model.add("embedding", "embedding", {{"vocabulary", std::int64_t{classes}}, {"width", width}});
  auto last = model.add("positional_encoding", "positions");
  const auto blocks = settings.integer_or("layers", 4, 1, 1024);
  for (std::int64_t i = 0; i < blocks; ++i) last = add_block(model, block, fmt::format("layers.{}", i), last);
  model.add("layer_norm", "norm");
  model.add("dense", "head", {{"units", std::int64_t{classes}}, {"init", std::string("glorot")}});
  return model;
}

}  // namespace impart::nn

// transformer: a model of the next word of a sequence (Vaswani et al. 2017, the decoder without a memory),
// with the norms in front (Xiong et al. 2020). Parameters have the names of PyTorch's TransformerEncoder.
#include <fmt/format.h>

#include "nn/zoo/models.hpp"

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
    return model.add("dense", part(what), {{"units", units}, {"init", "glorot"}});
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

ZooModel transformer(Settings& settings, int classes) {
  const auto extents = between(1, static_cast<double>(kMaxExtent));
  std::int64_t blocks = 4;
  std::int64_t context = 64;
  Block block{.width = 128, .heads = 4, .ff = 0, .dropout = 0};
  settings.read("layers", blocks, between(1, 1024), "blocks of attention and two dense layers");
  settings.read("width", block.width, extents, "features of each step");
  settings.read("heads", block.heads, extents, "of the attention");
  block.ff = 4 * block.width;
  settings.read("ff", block.ff, extents, "units between a block's dense layers; when not given, 4 width");
  settings.read("context", context, extents, "words of a sequence");
  settings.read("dropout", block.dropout, below(0, 1), "share of the values that training leaves out");
  ZooModel model{.input = {context}};
  model.add("embedding", "embedding", {{"vocabulary", classes}, {"width", block.width}});
  auto last = model.add("positional_encoding", "positions");
  for (std::int64_t i = 0; i < blocks; ++i) last = add_block(model, block, fmt::format("layers.{}", i), last);
  model.add("layer_norm", "norm");
  model.add("dense", "head", {{"units", classes}, {"init", "glorot"}});
  return model;
}

}  // namespace impart::nn

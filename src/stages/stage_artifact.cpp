#include "stages/stage_artifact.hpp"

#include <fmt/format.h>

#include <vector>

#include "impart/comm/mesh.hpp"
#include "impart/core/digest.hpp"
#include "impart/core/error.hpp"
#include "impart/core/files.hpp"
#include "impart/core/log.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/wisdom.hpp"
#include "impart/stages/commands.hpp"
#include "stages/run_record.hpp"
#include "stages/stage_key.hpp"

namespace impart::stages {

namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kMaxTableBytes = 1 << 30;

std::vector<io::DataRecord> lineage_data(RunContext& context, const Stage& stage) {
  std::vector<io::DataRecord> records;
  for (const auto& name : stage.uses().datasets) {
    const auto& data = context.data(name);
    records.push_back({name, data.fingerprint, data.all->size()});
  }
  return records;
}

io::LineageRecord lineage_of(const RunContext& context, const Stage& stage) {
  const int ranks = context.comm().size();
  io::LineageRecord lineage;
  lineage.stage = resolved_settings(context.deck(), stage);
  lineage.ranks = ranks;
  lineage.mesh = comm::describe(comm::fit_mesh(mesh_of(stage.common()), ranks));
  lineage.isa = nn::kernel_isa();
  lineage.kernels = fmt::format("{}, kernels chosen by {}", version_line(), nn::kernel_choice());
  const auto from = fs::absolute(context.deck().run_directory() / stage.name());
  for (const auto& use : stage.uses().artifacts) {
    const auto& [path, digest] = *context.find(use.name);
    lineage.parents.push_back(
        {digest, fs::absolute(path).lexically_relative(from).string(), use.role, use.weight});
  }
  return lineage;
}

}  // namespace

fs::path artifact_name(const Stage& stage) {
  return fs::path(stage.name()) / (stage.common().kind == "evaluate" ? "metrics.json" : "model.h5");
}

std::string verified_digest(const RunContext& context, const Stage& stage) {
  const auto path = context.deck().run_directory() / artifact_name(stage);
  if (!fs::exists(path)) return "";
  try {
    if (stage.common().kind == "evaluate")
      return Hasher().text(read_file(path, kMaxTableBytes)).finish().hex();
    return io::read_checkpoint(path).digest;
  } catch (const Error& e) {
    log::warn(fmt::format("{}; the stage runs again", e.what()));
    return "";
  }
}

std::string write_artifact(RunContext& context, const Stage& stage, const StageResult& result) {
  const auto path = context.deck().run_directory() / artifact_name(stage);
  const auto data = lineage_data(context, stage);
  std::string digest;
  comm::agree(context.comm(), "writing " + path.string(), [&] {
    if (!context.comm().is_root()) return;
    if (!result.model) {
      const auto text = to_json(result.measurements);
      write_file_atomically(path, text);
      digest = Hasher().text(text).finish().hex();
      return;
    }
    io::Checkpoint checkpoint;
    checkpoint.model = share::to_record(*result.model);
    checkpoint.state = result.model->state.clone();
    checkpoint.progress = result.progress;
    checkpoint.metrics = result.history;
    for (const auto& [name, value] : result.metrics) {
      if (!checkpoint.metrics.contains(name)) checkpoint.metrics[name] = {{0, value}};
    }
    checkpoint.lineage = lineage_of(context, stage);
    checkpoint.lineage.data = data;
    io::write_checkpoint(path, checkpoint);
    digest = checkpoint.digest;
  });
  context.comm().broadcast(digest, 0, "artifact digest");
  return digest;
}

}  // namespace impart::stages

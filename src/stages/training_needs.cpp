#include "stages/training_needs.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "impart/nn/network.hpp"
#include "impart/parallel/tensor_plan.hpp"
#include "impart/train/gradient_engine.hpp"
#include "impart/train/local_workers.hpp"

namespace impart::stages {

namespace {

constexpr std::size_t kProgramBytes = 40'000'000;  // measured: MPI's and HDF5's libraries and buffers

}  // namespace

std::string megabytes(double bytes) {
  return bytes < 1e7 ? fmt::format("{:.1f} MB", bytes / 1e6) : fmt::format("{:.0f} MB", bytes / 1e6);
}

std::string TrainingNeeds::kinds() const {
  const auto text = [](std::size_t bytes) { return megabytes(static_cast<double>(bytes)); };
  return fmt::format(
      "data {}, parameters {}, gradients {}, optimizer {}, activations {}, scratch {}, checkpoint {}, "
      "program {}",
      text(data), text(parameters), text(gradients), text(optimizer), text(activations), text(scratch),
      text(checkpoint), text(program));
}

std::string TrainingNeeds::describe() const {
  auto line = fmt::format("mesh data {} x pipeline {} x tensor {}; memory of a rank {}: {}", mesh.data,
                          mesh.pipeline, mesh.tensor, megabytes(static_cast<double>(memory())), kinds());
  std::string axes;
  if (mesh.data > 1) axes += megabytes(data_axis) + " on the data axis";
  if (mesh.tensor > 1) axes += (axes.empty() ? "" : ", ") + megabytes(tensor_axis) + " on the tensor axis";
  return axes.empty() ? line : fmt::format("{}; a rank sends {} a step", line, axes);
}

std::size_t saved_slots(const train::TrainerOptions& options) {
  const bool averaged = options.average->use() != train::Average::Use::kNone;
  return options.optimizer->slot_names().size() + train::transform_slots(options.transforms) +
         (averaged ? 1 : 0);
}

TrainingNeeds training_needs(const train::Training& training, const nn::ModelSpec& spec,
                             const comm::MeshShape& mesh, int shards, int threads, std::size_t data,
                             std::size_t limit) {
  const auto& options = training.options;
  TrainingNeeds needs{.mesh = mesh, .data = data};
  const auto plan = parallel::plan_tensors(spec, {0, mesh.tensor});
  const auto arena = nn::state_layout(plan.local)->arena_size() * sizeof(float);
  // One thread of a rank speaks to the other ranks of a tensor axis.
  const int workers = mesh.tensor > 1 ? 1 : std::max(1, threads);
  needs.parameters = arena;
  needs.program = kProgramBytes;
  const auto saved = nn::state_layout(spec)->arena_size() * sizeof(float) * (1 + saved_slots(options));
  // At other times, the copies of the whole model before and after training on a tensor axis take no more.
  needs.checkpoint = 2 * saved;
  needs.gradients = arena;
  needs.optimizer = options.solver
                        ? options.solver->memory(spec, *training.objective, shards, mesh.data, workers)
                        : arena * (saved_slots(options) + (options.accumulate > 1 ? 1 : 0));
  const auto slots = options.optimizer->slot_names().size() + train::transform_slots(options.transforms);
  const bool local = options.local_steps > 1;
  if (local) {  // the shards of a rank have weights and slots of their own
    const auto mine = static_cast<std::size_t>(shards / mesh.data);
    needs.parameters += mine * arena;
    needs.optimizer += mine * slots * arena;
  }
  if (needs.memory() <= limit && options.batch_size % shards == 0) {
    const train::EngineOptions engine_options{
        {.shards = shards, .threads = workers}, options.batch_size, 0, [&](const std::string& name) {
          return !train::group_of(options.groups, name).frozen;
        }};
    const auto engine = local ? train::local_memory(plan.local, engine_options, slots, mesh.data)
                              : train::engine_memory(plan.local, engine_options, mesh.data);
    needs.gradients = std::max(engine.gradients, arena);
    needs.activations = engine.activations;
    needs.scratch = engine.scratch;
  }
  // What the first rank of a node receives there from other nodes, if there are several.
  if (mesh.data > 1) needs.gradients += arena / 2;
  // As recursive halving and doubling send them.
  const auto ranks = static_cast<double>(mesh.data);
  const auto sent = local ? static_cast<double>(1 + slots) / options.local_steps : 1.0;
  needs.data_axis = 2 * (ranks - 1) / ranks * static_cast<double>(arena) * sent;
  needs.tensor_axis =
      static_cast<double>(options.batch_size) / ranks * (plan.traffic.forward + plan.traffic.backward);
  return needs;
}

}  // namespace impart::stages

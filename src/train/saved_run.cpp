#include "impart/train/saved_run.hpp"

#include "impart/core/clock.hpp"
#include "impart/core/error.hpp"
#include "impart/nn/network.hpp"

namespace impart::train {

SavedRun::SavedRun(const comm::Comm& comm, const comm::MeshShape& mesh, const nn::ModelSpec& spec,
                   std::filesystem::path directory, std::string key, StateLayoutPtr layout)
    : comm_(comm),
      mesh_(mesh),
      spec_(spec),
      directory_(std::move(directory)),
      key_(std::move(key)),
      layout_(layout ? std::move(layout) : nn::state_layout(spec)) {}

std::optional<std::pair<std::filesystem::path, io::Checkpoint>> SavedRun::newest() const {
  if (directory_.empty()) return std::nullopt;
  auto found = io::read_newest(directory_);
  if (!found || found->second.lineage.stage != key_ || !found->second.progress) return std::nullopt;
  if (const auto difference = layout_->difference(found->second.state.layout())) {
    throw Error("a saved state of another model").at(found->first.string()).got(*difference);
  }
  return found;
}

io::Checkpoint SavedRun::snapshot(StateDict state) const {
  io::Checkpoint checkpoint;
  checkpoint.model = {nn::to_json(spec_), spec_.input, spec_.classes};
  checkpoint.state = std::move(state);
  checkpoint.lineage.stage = key_;
  checkpoint.lineage.ranks = comm_.size();
  checkpoint.lineage.mesh = comm::describe(mesh_);
  return checkpoint;
}

double SavedRun::save(const std::function<io::Checkpoint()>& make) {
  return write([&] { writer_.submit(directory_, make()); });
}

double SavedRun::save_as(const std::string& name, const std::function<io::Checkpoint()>& make) {
  return write([&] {
    std::filesystem::create_directories(directory_);
    auto checkpoint = make();
    io::write_checkpoint(directory_ / name, checkpoint);
  });
}

void SavedRun::finish() {
  write([&] { writer_.finish(); });
}

double SavedRun::write(const std::function<void()>& on_root) {
  if (directory_.empty()) return 0;
  const auto start = Clock::now();
  comm::agree(comm_, "saving the state of the run", [&] {
    if (comm_.is_root()) on_root();
  });
  return seconds_since(start);
}

}  // namespace impart::train

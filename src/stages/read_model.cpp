// One rank reads a checkpoint, all get it.

#include <nlohmann/json.hpp>

#include "impart/io/checkpoint.hpp"
#include "impart/stages/run_context.hpp"

namespace impart::stages {

namespace {

using Json = nlohmann::json;

// All of a checkpoint but the values: what the other ranks need to make room for them.
std::string outline_of(const io::Checkpoint& checkpoint) {
  Json entries = Json::array();
  for (const auto& entry : checkpoint.state.layout().entries()) {
    const auto dims = entry.shape.dims();
    entries.push_back({entry.name, std::vector<std::int64_t>(dims.begin(), dims.end()),
                       entry.kind == StateKind::kParameter});
  }
  const auto input = checkpoint.model.input_shape.dims();
  return Json{{"spec", checkpoint.model.spec},
              {"input", std::vector<std::int64_t>(input.begin(), input.end())},
              {"classes", checkpoint.model.classes},
              {"digest", checkpoint.digest},
              {"entries", std::move(entries)}}
      .dump();
}

io::Checkpoint from_outline(const std::string& text) {
  const auto json = Json::parse(text);
  io::Checkpoint checkpoint;
  checkpoint.model = {json.at("spec").get<std::string>(),
                      Shape(json.at("input").get<std::vector<std::int64_t>>()),
                      json.at("classes").get<int>()};
  checkpoint.digest = json.at("digest").get<std::string>();
  std::vector<StateEntry> entries;
  for (const auto& entry : json.at("entries")) {
    entries.push_back({entry.at(0).get<std::string>(), Shape(entry.at(1).get<std::vector<std::int64_t>>()),
                       entry.at(2).get<bool>() ? StateKind::kParameter : StateKind::kBuffer});
  }
  checkpoint.state = StateDict(std::make_shared<StateLayout>(std::move(entries)));
  return checkpoint;
}

}  // namespace

share::Model read_model(const comm::Comm& comm, const std::filesystem::path& path, std::string& digest) {
  io::Checkpoint checkpoint;
  std::string outline;
  comm::agree(comm, "reading a model", [&] {
    if (!comm.is_root()) return;
    checkpoint = io::read_checkpoint(path);
    outline = outline_of(checkpoint);
  });
  comm.broadcast(outline, 0, "model outline");
  if (!comm.is_root()) checkpoint = from_outline(outline);
  comm.broadcast(checkpoint.state.arena(), 0, "model values");
  digest = checkpoint.digest;
  share::Model model;
  comm::agree(comm, path.string(), [&] { model = share::from_checkpoint(std::move(checkpoint)); });
  return model;
}

}  // namespace impart::stages

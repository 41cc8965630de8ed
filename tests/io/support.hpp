// What the tests of io share: a directory that goes away, bytes in and out of files, sample checkpoints.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>

#include "impart/core/error.hpp"
#include "impart/io/checkpoint.hpp"

namespace impart::io {

class ScratchDirectory {
 public:
  ScratchDirectory() {
    auto pattern = (std::filesystem::temp_directory_path() / "impart-io-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw Error("cannot make a scratch directory").at(pattern);
    path_ = pattern;
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  [[nodiscard]] std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

  [[nodiscard]] std::size_t entries() const {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(path_), std::filesystem::directory_iterator()));
  }

 private:
  std::filesystem::path path_;
};

inline std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << bytes;
}

/// The message of the Error that `work` throws; empty when it throws none.
template <class Work>
std::string error_of(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// Two layers whose buffers lie between the parameters; values that depend on `seed`.
inline StateDict sample_state(float seed = 1) {
  std::vector<StateEntry> entries{{"conv1.weight", Shape{4, 1, 3, 3}, StateKind::kParameter, 0},
                                  {"conv1.bias", Shape{4}, StateKind::kParameter, 0},
                                  {"bn1.running_mean", Shape{4}, StateKind::kBuffer, 0},
                                  {"bn1.count", Shape{}, StateKind::kBuffer, 0},
                                  {"fc.weight", Shape{10, 4}, StateKind::kParameter, 0}};
  StateDict state(std::make_shared<const StateLayout>(std::move(entries)));
  for (const auto& entry : state.layout().entries()) {
    float value = seed + static_cast<float>(entry.name.size());
    for (auto& x : state.values(entry)) x = value += 0.25F;
  }
  return state;
}

/// A checkpoint with something in each of its parts.
inline Checkpoint sample_checkpoint(float seed = 1, std::int64_t step = 420) {
  Checkpoint checkpoint;
  checkpoint.model = {R"({"layers":[]})", Shape{1, 28, 28}, 10};
  checkpoint.state = sample_state(seed);
  checkpoint.optimizer = OptimizerRecord{"adam", {}};
  checkpoint.optimizer->slots.emplace_back("exp_avg_sq", sample_state(seed + 7));
  checkpoint.optimizer->slots.emplace_back("exp_avg", sample_state(seed + 5));
  checkpoint.progress =
      ProgressRecord{"teacher", 3, step, 53760, 0xFFFFFFFFFFFFFFFEULL, {{"best", 0.975}, {"patience", 2}}};
  checkpoint.lineage = {R"({"name":"teacher","kind":"train"})", 2, "data=2", "avx2", "onednn 2.6.3", {}, {}};
  checkpoint.lineage.parents.push_back({std::string(64, 'a'), "../base/model.h5", "init", 0.5});
  checkpoint.lineage.parents.push_back({std::string(64, 'b'), "../größer/model.h5", "member", 0.25});
  checkpoint.lineage.data.push_back({"mnist.train", std::string(64, 'c'), 8000});
  checkpoint.metrics["validation.accuracy"] = {{100, 0.5}, {200, 0.75}};
  checkpoint.metrics["train.loss"] = {};
  return checkpoint;
}

}  // namespace impart::io

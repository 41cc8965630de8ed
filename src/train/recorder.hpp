// Recorder: what a training run measures, on its way to the result, the log and the checkpoints.
#pragma once

#include <cstdint>
#include <string>

#include "impart/comm/comm.hpp"
#include "impart/train/trainer.hpp"

namespace impart::train {

class Recorder {
 public:
  /// Borrows all.
  Recorder(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task, TrainResult& result)
      : comm_(comm), options_(options), task_(task), result_(result) {}

  void event(std::int64_t epoch, std::int64_t step, const std::string& name, double value);
  /// "validation.*" of `state`; nothing without validation data. Collective.
  void measure(std::int64_t epoch, std::int64_t step, const StateDict& state);

 private:
  const comm::Comm& comm_;
  const TrainerOptions& options_;
  const TrainTask& task_;
  TrainResult& result_;
};

}  // namespace impart::train

// Hints: a layer of the student learns to tell what a layer of the teacher says (FitNets).

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/part_network.hpp"
#include "share/distil/distil_losses.hpp"

namespace impart::share {

namespace {

struct HintOptions {
  std::string layer;          ///< v_g, of the student
  std::string teacher_layer;  ///< u_h
  double weight = 1;
  double label_weight = 1;
};

/// r: what makes the shape of the teacher's layer of the student's: a dense layer for features, a convolution
/// without padding for images, of a kernel of one pixel where they are of the same size (section 2.2).
nn::ModelSpec projection_of(const Shape& student, const Shape& teacher) {
  nn::ModelSpec spec{"hint", student, nn::kAnyOutput, {}};
  const auto rank = student.rank();
  const bool sequence = rank == 2 && teacher.rank() == 2 && student[0] == teacher[0];
  if (sequence || (rank == 1 && teacher.rank() == 1)) {
    spec.layers = {{"dense", "hint.projection", {{"units", teacher[rank - 1]}}}};
    return spec;
  }
  if (rank == 3 && teacher.rank() == 3 && student[1] >= teacher[1] &&
      student[1] - teacher[1] == student[2] - teacher[2]) {
    spec.layers = {
        {"conv2d", "hint.projection", {{"filters", teacher[0]}, {"kernel", student[1] - teacher[1] + 1}}}};
    return spec;
  }
  throw Error("the student's layer cannot be projected onto the teacher's", ErrorKind::kUsage)
      .expected(
          "two lists of features, two sequences of equal length, or two images, the student's larger "
          "by the same number of pixels each way, or equal")
      .got(fmt::format("{} and {}", student.str(), teacher.str()));
}

nn::NetworkOptions tapped(const std::string& layer) {
  nn::NetworkOptions options;
  options.taps.push_back(layer);
  return options;
}

class HintWorker final : public nn::ObjectiveWorker {
 public:
  HintWorker(const nn::JointObjective& objective, const HintOptions& options, const Teacher& teacher,
             const nn::ModelSpec& projection)
      : objective_(objective),
        options_(options),
        teacher_(*teacher.spec, tapped(options.teacher_layer)),
        projection_(projection, {.training = true, .inner = true}) {
    teacher_.load(*teacher.state);
  }

  void load(const StateDict& state) override { projection_.load(state); }

  double evaluate(const nn::ShardView& shard) override {
    const auto& stream = shard.streams.front();
    const auto& tap = stream.taps.front();
    auto& teacher = teacher_.of(stream.samples);
    teacher.forward({}, stream.inputs);
    const auto wanted = teacher.tap(0);
    auto& projection = projection_.of(stream.samples);
    const auto found = projection.forward(shard.pass, tap.values);
    // The mean over the samples, as often as the objective says that the shard counts.
    const double part =
        options_.weight * objective_.weight(stream.targets) / static_cast<double>(stream.samples);
    const double slope = part * static_cast<double>(shard.scale);
    double squares = 0;
    differences_.resize(found.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      const double difference = static_cast<double>(found[i]) - static_cast<double>(wanted[i]);
      squares += difference * difference;
      differences_[i] = static_cast<float>(slope * difference);
    }
    projection.backward(shard.pass, differences_, *shard.part_gradients);
    if (!tap.gradient.empty()) {
      const auto gradient = projection.input_gradient();
      for (std::size_t i = 0; i < gradient.size(); ++i) tap.gradient[i] += gradient[i];
    }
    return objective_.on_labels(shard, options_.label_weight) + part * squares / 2;
  }

 private:
  const nn::JointObjective& objective_;
  const HintOptions& options_;
  nn::PartNetwork teacher_;
  nn::PartNetwork projection_;
  std::vector<float> differences_;
};

/// 1/2 ||u_h(x) - r(v_g(x))||^2, mean over the batch, of a frozen teacher and a trained projection r that is
/// linear (Romero et al. 2015, "FitNets: hints for thin deep nets", eq. 3).
class Hint final : public nn::JointObjective {
 public:
  Hint(HintOptions options, Teacher teacher, nn::ModelSpec projection,
       std::shared_ptr<const nn::Objective> labels)
      : JointObjective(std::move(labels)),
        options_(std::move(options)),
        teacher_(teacher),
        projection_(std::move(projection)) {}

  [[nodiscard]] std::string_view kind() const override { return "hint"; }
  [[nodiscard]] nn::ObjectiveNeeds needs() const override {
    return {.taps = {options_.layer}, .parts = nn::part_tensors(projection_)};
  }
  [[nodiscard]] std::unique_ptr<nn::ObjectiveWorker> worker() const override {
    return std::make_unique<HintWorker>(*this, options_, teacher_, projection_);
  }

 private:
  HintOptions options_;
  Teacher teacher_;
  nn::ModelSpec projection_;
};

class HintLoss final : public DistilLoss {
 public:
  explicit HintLoss(HintOptions options) : options_(std::move(options)) {}

  void check(const nn::ModelSpec& student, std::span<const nn::ModelSpec* const> teachers) const override {
    if (teachers.size() != 1) {
      throw Error("a hint is one network's", ErrorKind::kUsage)
          .expected("one teacher, no ensemble")
          .got(std::to_string(teachers.size()));
    }
    nn::check_model(projection(student, *teachers[0]));
  }

  [[nodiscard]] std::unique_ptr<nn::Objective> objective(DistilInputs inputs) const override {
    const auto& teacher = inputs.teachers.front();
    return std::make_unique<Hint>(options_, teacher, projection(inputs.student, *teacher.spec),
                                  std::move(inputs.labels));
  }

 private:
  [[nodiscard]] nn::ModelSpec projection(const nn::ModelSpec& student, const nn::ModelSpec& teacher) const {
    return projection_of(nn::layer_shape(student, options_.layer),
                         nn::layer_shape(teacher, options_.teacher_layer));
  }

  HintOptions options_;
};

}  // namespace

std::unique_ptr<DistilLoss> make_hint(Settings& settings) {
  HintOptions options;
  settings.require("layer", options.layer, "the student's layer that is taught, before the last");
  settings.require("teacher_layer", options.teacher_layer, "the teacher's layer that it is taught by");
  settings.read("weight", options.weight, at_least(0), "what the hint counts");
  settings.read("label_weight", options.label_weight, at_least(0),
                "what the loss on labels counts; 0: hints alone, as a first stage of training");
  return std::make_unique<HintLoss>(std::move(options));
}

}  // namespace impart::share

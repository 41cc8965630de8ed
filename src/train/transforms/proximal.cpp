// Li et al. 2020, "Federated optimization in heterogeneous networks", eq. 2: mu / 2 ||w - w_0||^2 holds a
// client's weights near the server's.

#include <numeric>

#include "impart/core/error.hpp"
#include "train/transforms/transforms.hpp"
#include "train/vector_sums.hpp"

namespace impart::train {

namespace {

class Proximal final : public GradientTransform {
 public:
  Proximal(double mu, std::shared_ptr<const StateDict> reference)
      : mu_(mu), reference_(std::move(reference)) {}

  [[nodiscard]] std::string_view name() const override { return "proximal"; }
  [[nodiscard]] std::vector<std::string> slot_names() const override { return {"reference"}; }

  void start(const StateDict& state, std::span<StateDict> slots) const override {
    const auto& from = reference_ == nullptr ? state : *reference_;
    if (const auto difference = slots[0].layout().difference(from.layout()))
      throw Error("the reference of a proximal term is another model").got(*difference);
    copy_by_name(from, slots[0]);
  }

  double apply(const GradientStep& step) const override {
    if (mu_ == 0) return 0;
    const auto factor = static_cast<float>(mu_);
    const auto w = step.state.arena();
    const auto g = step.gradient.arena();
    const auto start = std::as_const(step.slots[0]).arena();
    const auto sums = step.parameters.sums([&](const TrainedParameters::Piece& piece) {
      for (auto i = piece.begin; i < piece.begin + piece.size; ++i) g[i] += factor * (w[i] - start[i]);
      return square_distance(w.subspan(piece.begin, piece.size), start.subspan(piece.begin, piece.size));
    });
    return mu_ / 2 * std::accumulate(sums.begin(), sums.end(), 0.0);
  }

 private:
  double mu_;
  std::shared_ptr<const StateDict> reference_;  // null: where the run begins
};

}  // namespace

GradientTransformPtr make_proximal(double mu, std::shared_ptr<const StateDict> reference) {
  return std::make_shared<Proximal>(mu, std::move(reference));
}

GradientTransformPtr read_proximal(Settings& settings) {
  double mu = 0.01;
  settings.read("mu", mu, at_least(0),
                "times half the squared distance from where the run began is added to the loss");
  return make_proximal(mu);
}

}  // namespace impart::train

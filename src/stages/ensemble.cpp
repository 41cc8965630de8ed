// ensemble: several networks that vote.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "impart/stages/check_context.hpp"
#include "impart/stages/run_context.hpp"
#include "stages/kinds.hpp"

namespace impart::stages {

namespace {

class EnsembleStage final : public Stage {
 public:
  explicit EnsembleStage(Settings& settings) {
    read_inputs(settings, "members", members_, 2, "stages, or paths that end in .h5");
    read_weights(settings, weights_, members_.size(), above(0), "of each member's vote");
    settings.choose("voting", voting_, {{"soft", share::Voting::kSoft}, {"hard", share::Voting::kHard}},
                    "soft: the mean of the members' probabilities; hard: the class with most votes");
    settings.read("dataset", dataset_, "on whose validation part it is measured; empty: it is not");
    auto sorted = members_;
    std::ranges::sort(sorted);
    if (std::ranges::adjacent_find(sorted) != sorted.end())
      settings.problem("members", "names one member twice");
  }

  [[nodiscard]] StageUses uses() const override { return uses_of(members_, weights_, "member", dataset_); }

  [[nodiscard]] std::string describe() const override {
    return fmt::format("{} vote of {}", voting_ == share::Voting::kSoft ? "soft" : "hard",
                       fmt::join(members_, ", "));
  }

  std::optional<ModelOutline> check(CheckContext& context) const override {
    const auto path = this->path() + ".members";
    ModelOutline outline;
    for (const auto& member : members_) {
      const auto* spec = context.network(path, member);
      if (spec == nullptr) return std::nullopt;
      outline.members.push_back(*spec);
      const auto& first = outline.members.front();
      if (spec->input != first.input || spec->classes != first.classes) {
        context.problem(
            path, fmt::format("'{}' maps {} to {} classes, '{}' maps {} to {}", members_.front(),
                              first.input.str(), first.classes, member, spec->input.str(), spec->classes));
      }
    }
    if (outline.members.empty()) return std::nullopt;
    context.measured(this->path() + ".dataset", dataset_, outline.spec());
    return outline;
  }

  StageResult run(RunContext& context) const override {
    std::vector<share::Member> members;
    std::vector<const StateDict*> states;
    for (std::size_t i = 0; i < members_.size(); ++i) {
      const auto& model = context.model(members_[i]);
      // Tensors' names, of which this becomes a part, have no '/'.
      auto member_name = members_[i];
      std::ranges::replace(member_name, '/', '.');
      auto member = model.members.front();
      member.name = member_name;
      member.weight = weights_.empty() ? 1.0 : weights_[i];
      members.push_back(std::move(member));
      states.push_back(&model.state);
    }
    StageResult result;
    comm::agree(context.comm(), "ensemble",
                [&] { result.model = share::ensemble(std::move(members), std::move(states), voting_); });
    result.metrics = validation_metrics(context, dataset_, *result.model);
    return result;
  }

 private:
  std::vector<std::string> members_;
  std::vector<double> weights_;
  share::Voting voting_ = share::Voting::kSoft;
  std::string dataset_;
};

}  // namespace

std::unique_ptr<Stage> make_ensemble(Settings& settings, const Deck& /*deck*/) {
  return std::make_unique<EnsembleStage>(settings);
}

}  // namespace impart::stages

// Model: what a checkpoint predicts with: one network, or an ensemble that votes.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "impart/comm/comm.hpp"
#include "impart/core/state_dict.hpp"
#include "impart/data/dataset.hpp"
#include "impart/io/checkpoint.hpp"
#include "impart/metrics/metric.hpp"
#include "impart/nn/spec.hpp"

namespace impart::share {

/// How the members of an ensemble come to one prediction (scikit-learn's words).
enum class Voting {
  kSoft,  ///< the weighted mean of their probabilities
  kHard,  ///< the class with most (weighted) votes
};

/// Parses "soft" or "hard". Throws Error (usage) for another word.
Voting parse_voting(std::string_view word);

struct Member {
  std::string name;
  nn::ModelSpec spec;
  double weight = 1.0;
  /// Of the data it was trained on: whatever data it is given later, its inputs are made in the same way.
  /// Without one (files of before there were any), the data's own serves.
  std::optional<data::Encoding> encoding = {};
};

/// One network (one member, its tensors under their own names), or an ensemble (several; the tensors of
/// member `a` are named `a:conv1.weight`).
struct Model {
  std::vector<Member> members;
  Voting voting = Voting::kSoft;
  StateDict state;

  [[nodiscard]] bool is_ensemble() const noexcept { return members.size() > 1; }
  [[nodiscard]] const Shape& input_shape() const { return members.front().spec.input; }
  [[nodiscard]] int classes() const { return members.front().spec.classes; }
  /// The state of one member alone, under its network's own names: a copy.
  [[nodiscard]] StateDict member_state(const Member& member) const;
};

/// A model of one network.
Model single(nn::ModelSpec spec, StateDict state, std::optional<data::Encoding> encoding = {});
/// An ensemble. Throws Error unless inputs, classes and vocabularies agree, and there are at least two
/// members with distinct names.
Model ensemble(std::vector<Member> members, std::vector<const StateDict*> states, Voting voting);

/// The encoding of a model that is merged from `members`: theirs when they are equal, and else the mean of
/// their means and deviations by `weights`, as of the weights and of a batch norm's statistics. Those without
/// one don't count. Throws Error when they are for other channels or other characters.
std::optional<data::Encoding> merged_encoding(std::span<const Member* const> members,
                                              std::span<const double> weights);
/// Whether members would make other inputs of the same sample.
bool encodings_differ(std::span<const Member* const> members);

/// What a checkpoint stores as its model, and back. Throws Error on a spec that is neither, or tensors that
/// don't fit it.
io::ModelRecord to_record(const Model& model);
Model from_checkpoint(io::Checkpoint checkpoint);

/// `dataset` with samples (and, of a text, labels) as `member` takes them. Throws as data::encoded_as does.
data::DatasetPtr inputs_of(const Member& member, const data::DatasetPtr& dataset);

/// Probabilities of every sample, (size, classes) or, of sequences, a row for each label, on every rank, at a
/// softmax temperature. Each member gets its inputs encoded as those it was trained on. A hard vote gives the
/// parts of the votes. Collective.
Tensor probabilities(const comm::Comm& comm, const Model& model, const data::DatasetPtr& dataset,
                     double temperature, int threads);

/// "loss" (cross entropy) and `wanted` of `model` over `dataset`. Collective.
std::map<std::string, double> evaluate(
    const comm::Comm& comm, const Model& model, const data::DatasetPtr& dataset, int threads,
    std::span<const metrics::MetricPtr> wanted = metrics::default_metrics());

}  // namespace impart::share

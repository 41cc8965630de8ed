#include "impart/share/model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <utility>

#include "impart/core/error.hpp"
#include "impart/metrics/classification.hpp"
#include "impart/nn/network.hpp"
#include "impart/train/evaluator.hpp"

namespace impart::share {

namespace {

using Json = nlohmann::ordered_json;

std::string_view word_of(Voting voting) { return voting == Voting::kSoft ? "soft" : "hard"; }

/// Throws unless `state` has exactly the tensors of the model's members.
void check_state(const Model& model, const std::string& where) {
  std::vector<StateEntry> wanted;
  for (const auto& member : model.members) {
    const auto layout = nn::state_layout(member.spec);
    for (auto entry : layout->entries()) {
      if (model.is_ensemble()) entry.name.insert(0, member.name + ":");
      wanted.push_back(entry);
    }
  }
  if (const auto difference = StateLayout(std::move(wanted)).difference(model.state.layout())) {
    throw Error("the tensors do not fit the model's description").at(where).got(*difference);
  }
}

/// The network's description, with the encoding as one more member: readers that don't know it see it.
Json to_json(const Member& member) {
  auto json = Json::parse(nn::to_json(member.spec));
  if (member.encoding) {
    const auto& n = member.encoding->normalisation;
    json["normalisation"] = {{"scale", n.scale}, {"mean", n.mean}, {"deviation", n.deviation}};
    if (const auto& vocabulary = member.encoding->vocabulary; !vocabulary.empty()) {
      // As numbers: bytes need not be UTF-8, which JSON's strings are.
      json["vocabulary"] = std::vector<std::uint8_t>(vocabulary.begin(), vocabulary.end());
    }
  }
  return json;
}

Member member_from_json(Json json) {
  Member member;
  if (const auto found = json.find("normalisation"); found != json.end()) {
    auto& n = member.encoding.emplace().normalisation;
    n.scale = found->at("scale").get<double>();
    n.mean = found->at("mean").get<std::vector<double>>();
    n.deviation = found->at("deviation").get<std::vector<double>>();
    json.erase(found);
    if (const auto vocabulary = json.find("vocabulary"); vocabulary != json.end()) {
      for (const auto byte : vocabulary->get<std::vector<std::uint8_t>>()) {
        member.encoding->vocabulary.push_back(static_cast<char>(byte));
      }
      json.erase(vocabulary);
    }
  }
  member.spec = nn::model_spec_from_json(json.dump());
  member.name = member.spec.name;
  return member;
}

/// Scales belong to the data, and may differ.
bool inputs_differ(const data::Encoding& a, const data::Encoding& b) {
  return a.normalisation.mean != b.normalisation.mean ||
         a.normalisation.deviation != b.normalisation.deviation || a.vocabulary != b.vocabulary;
}

const std::string& vocabulary_of(const Member& member) {
  static const std::string none;
  return member.encoding ? member.encoding->vocabulary : none;
}

/// Their outputs mean the same characters, or none at all.
void require_one_vocabulary(const Member& a, const Member& b) {
  if (vocabulary_of(a) == vocabulary_of(b)) return;
  throw Error("models of texts with other characters cannot go together")
      .at("'" + a.name + "' and '" + b.name + "'")
      .hint("train them on texts of one `vocabulary`");
}

}  // namespace

Voting parse_voting(std::string_view word) {
  if (word == "soft") return Voting::kSoft;
  if (word == "hard") return Voting::kHard;
  throw Error("unknown voting", ErrorKind::kUsage)
      .expected("soft or hard")
      .got("'" + std::string(word) + "'");
}

StateDict Model::member_state(const Member& member) const {
  StateDict result(nn::state_layout(member.spec));
  for (const auto& entry : result.layout().entries()) {
    const auto from = state.values(is_ensemble() ? member.name + ":" + entry.name : entry.name);
    std::copy(from.begin(), from.end(), result.values(entry).begin());
  }
  return result;
}

Model single(nn::ModelSpec spec, StateDict state, std::optional<data::Encoding> encoding) {
  Model model;
  auto name = spec.name;
  model.members.push_back({std::move(name), std::move(spec), 1.0, std::move(encoding)});
  model.state = std::move(state);
  return model;
}

Model ensemble(std::vector<Member> members, std::vector<const StateDict*> states, Voting voting) {
  if (members.size() < 2)
    throw Error("an ensemble needs two members or more").got(std::to_string(members.size()));
  std::set<std::string> names;
  std::vector<StateEntry> entries;
  for (std::size_t i = 0; i < members.size(); ++i) {
    const auto& [name, spec, weight, encoding] = members[i];
    if (!names.insert(name).second) throw Error("two members of the ensemble share the name '" + name + "'");
    if (!(weight > 0) || !std::isfinite(weight)) throw Error("member '" + name + "' needs a positive weight");
    require_one_vocabulary(members[0], members[i]);
    if (spec.input != members[0].spec.input || spec.classes != members[0].spec.classes) {
      throw Error("the members of an ensemble must agree in inputs and classes")
          .expected(members[0].spec.input.str() + " to " + std::to_string(members[0].spec.classes))
          .got(spec.input.str() + " to " + std::to_string(spec.classes) + " of '" + name + "'");
    }
    for (auto entry : states[i]->layout().entries()) {
      entry.name.insert(0, name + ":");
      entries.push_back(std::move(entry));
    }
  }
  Model model{std::move(members), voting, StateDict(std::make_shared<StateLayout>(std::move(entries)))};
  for (std::size_t i = 0; i < states.size(); ++i) {
    for (const auto& entry : states[i]->layout().entries()) {
      const auto from = states[i]->values(entry);
      std::copy(from.begin(), from.end(),
                model.state.values(model.members[i].name + ":" + entry.name).begin());
    }
  }
  return model;
}

bool encodings_differ(std::span<const Member* const> members) {
  return std::ranges::any_of(members, [&](const Member* member) {
    const auto& first = members.front()->encoding;
    if (!member->encoding || !first) return member->encoding.has_value() != first.has_value();
    return inputs_differ(*member->encoding, *first);
  });
}

std::optional<data::Encoding> merged_encoding(std::span<const Member* const> members,
                                              std::span<const double> weights) {
  std::optional<data::Encoding> merged;
  if (!encodings_differ(members)) return members.front()->encoding;
  std::size_t channels = 0;
  for (const auto* member : members) {
    if (member->encoding) channels = std::max(channels, member->encoding->normalisation.mean.size());
  }
  double total = 0;
  std::vector<double> mean(channels);
  std::vector<double> deviation(channels);
  for (std::size_t i = 0; i < members.size(); ++i) {
    const auto& encoding = members[i]->encoding;
    require_one_vocabulary(*members.front(), *members[i]);
    if (!encoding) continue;
    const auto& n = encoding->normalisation;
    if (!n.mean.empty() && n.mean.size() != channels) {
      throw Error("models of inputs with other channels cannot be merged")
          .expected(std::to_string(channels))
          .got(fmt::format("{} of '{}'", n.mean.size(), members[i]->name));
    }
    if (!merged) merged = encoding;
    total += weights[i];
    for (std::size_t c = 0; c < channels; ++c) {
      mean[c] += weights[i] * (n.mean.empty() ? 0.0 : n.mean[c]);
      deviation[c] += weights[i] * (n.mean.empty() ? 1.0 : n.deviation[c]);
    }
  }
  if (!(total > 0)) return merged;  // what counts has no encoding
  for (auto& m : mean) m /= total;
  for (auto& d : deviation) d /= total;
  merged->normalisation.mean = std::move(mean);
  merged->normalisation.deviation = std::move(deviation);
  return merged;
}

io::ModelRecord to_record(const Model& model) {
  if (!model.is_ensemble()) {
    return {to_json(model.members[0]).dump(), model.input_shape(), model.classes()};
  }
  Json members = Json::array();
  for (const auto& member : model.members) {
    members.push_back({{"name", member.name}, {"weight", member.weight}, {"model", to_json(member)}});
  }
  return {Json{{"ensemble", {{"voting", word_of(model.voting)}, {"members", members}}}}.dump(),
          model.input_shape(), model.classes()};
}

Model from_checkpoint(io::Checkpoint checkpoint) {
  Model model;
  try {
    const auto json = Json::parse(checkpoint.model.spec);
    if (json.contains("ensemble")) {
      model.voting = parse_voting(json.at("ensemble").at("voting").get<std::string>());
      for (const auto& member : json.at("ensemble").at("members")) {
        model.members.push_back(member_from_json(member.at("model")));
        model.members.back().name = member.at("name").get<std::string>();
        model.members.back().weight = member.at("weight").get<double>();
      }
      if (model.members.size() < 2) throw Error("an ensemble of fewer than two members");
    } else {
      model.members.push_back(member_from_json(json));
    }
  } catch (const nlohmann::json::exception& e) {
    throw Error("the checkpoint's model description cannot be read").got(e.what());
  }
  model.state = std::move(checkpoint.state);
  check_state(model, "checkpoint");
  return model;
}

data::DatasetPtr inputs_of(const Member& member, const data::DatasetPtr& dataset) {
  return member.encoding ? data::encoded_as(dataset, *member.encoding) : dataset;
}

Tensor probabilities(const comm::Comm& comm, const Model& model, const data::DatasetPtr& dataset,
                     double temperature, int threads) {
  const auto classes = static_cast<std::size_t>(model.classes());
  const double total = std::accumulate(model.members.begin(), model.members.end(), 0.0,
                                       [](double sum, const Member& m) { return sum + m.weight; });
  Tensor result;
  std::vector<float> row(classes);
  for (const auto& member : model.members) {
    const auto state = model.member_state(member);
    data::DatasetPtr inputs;
    comm::agree(comm, member.name, [&] { inputs = inputs_of(member, dataset); });
    const auto outputs = train::predict(comm, member.spec, state, *inputs, threads);
    const auto share = static_cast<float>(member.weight / total);
    if (result.size() == 0) result = Tensor(outputs.shape());
    for (std::size_t i = 0; i < static_cast<std::size_t>(outputs.shape()[0]); ++i) {
      nn::softmax(outputs.values().subspan(i * classes, classes), static_cast<float>(temperature), row);
      const auto sum = result.values().subspan(i * classes, classes);
      if (model.is_ensemble() && model.voting == Voting::kHard) {
        sum[static_cast<std::size_t>(metrics::argmax(row))] += share;
      } else {
        for (std::size_t c = 0; c < classes; ++c) sum[c] += share * row[c];
      }
    }
  }
  return result;
}

std::map<std::string, double> evaluate(const comm::Comm& comm, const Model& model,
                                       const data::DatasetPtr& dataset, int threads,
                                       std::span<const metrics::MetricPtr> wanted) {
  // Cross entropy of softmax(log p) is -log p: the objective that takes outputs serves for probabilities,
  // too.
  auto outputs = probabilities(comm, model, dataset, 1.0, threads);
  for (auto& p : outputs.values()) p = std::log(std::max(p, 1e-30F));
  // A text's labels are those of the model's vocabulary, too.
  return train::classification_metrics(outputs, *inputs_of(model.members.front(), dataset),
                                       *nn::make_cross_entropy(), wanted);
}

}  // namespace impart::share

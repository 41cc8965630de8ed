#include "impart/train/trained_parameters.hpp"

#include <algorithm>
#include <utility>

#include "impart/core/error.hpp"

namespace impart::train {

namespace {

// Small enough that the threads end together, large enough that starting one costs nothing.
constexpr std::size_t kPieceFloats = 1 << 15;

}  // namespace

TrainedParameters::TrainedParameters(StateLayoutPtr layout, const IsTrained& is_trained, WorkerTeam* team,
                                     SumParts sum_parts)
    : layout_(std::move(layout)), team_(team), sum_parts_(std::move(sum_parts)) {
  for (const auto& entry : layout_->entries()) {
    if (entry.kind != StateKind::kParameter || (is_trained && !is_trained(entry.name))) continue;
    const auto size = static_cast<std::size_t>(entry.shape.elements());
    for (std::size_t begin = 0; begin < size; begin += kPieceFloats)
      pieces_.push_back({entries_.size(), entry.offset + begin, std::min(kPieceFloats, size - begin)});
    names_.push_back(entry.name);
    entries_.push_back(entry);
  }
}

void TrainedParameters::share(std::size_t count, const std::function<void(std::size_t i)>& work) const {
  const auto part = [&](std::size_t worker, std::size_t workers) {
    const auto end = count * (worker + 1) / workers;
    for (auto i = count * worker / workers; i < end; ++i) work(i);
  };
  if (team_ == nullptr || team_->size() == 1) return part(0, 1);
  team_->run([&](int w) { part(static_cast<std::size_t>(w), static_cast<std::size_t>(team_->size())); });
}

void TrainedParameters::for_pieces(const std::function<void(const Piece& piece)>& work) const {
  share(pieces_.size(), [&](std::size_t i) { work(pieces_[i]); });
}

std::vector<double> TrainedParameters::sums(const std::function<double(const Piece& piece)>& measure) const {
  std::vector<double> parts(pieces_.size());
  share(pieces_.size(), [&](std::size_t i) { parts[i] = measure(pieces_[i]); });
  std::vector<double> result(entries_.size());
  for (std::size_t i = 0; i < pieces_.size(); ++i) result[pieces_[i].parameter] += parts[i];
  if (sum_parts_) sum_parts_(names_, result);
  return result;
}

std::vector<double> TrainedParameters::sums_of_tensors(
    const std::function<double(const StateEntry& entry)>& measure) const {
  std::vector<double> result(entries_.size());
  share(entries_.size(), [&](std::size_t i) { result[i] = measure(entries_[i]); });
  if (sum_parts_) sum_parts_(names_, result);
  return result;
}

void copy_by_name(const StateDict& from, StateDict& to) {
  for (const auto& entry : from.layout().entries()) {
    const auto values = from.values(entry);
    const auto target = to.values(entry.name);
    if (values.size() != target.size())
      throw Error("the saved state of '" + entry.name + "' has another size");
    std::copy(values.begin(), values.end(), target.begin());
  }
}

}  // namespace impart::train

#include "impart/parallel/tensor_model.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "impart/core/error.hpp"
#include "parallel/split_cross_entropy.hpp"
#include "parallel/tensor_axis.hpp"

namespace impart::parallel {

namespace {

TensorPlan plan_on_all(const nn::ModelSpec& spec, const comm::Comm& tensor,
                       std::shared_ptr<TensorAxis> axis) {
  try {
    return plan_tensors(spec, {tensor.rank(), tensor.size()}, std::move(axis));
  } catch (Error& e) {
    throw std::move(e).collective();
  }
}

/// Calls `copy(first of whole, first of part, count)` for each run of neighbouring values of a tensor, of
/// which `shape` is that of the part of rank `index`.
template <class Copy>
void for_runs(const TensorPlan& plan, const std::string& name, const Shape& shape, std::int64_t index,
              Copy copy) {
  const auto found = plan.slices.find(name);
  if (found == plan.slices.end()) return copy(std::int64_t{0}, std::int64_t{0}, shape.elements());
  const auto [axis, blocks] = found->second;
  std::int64_t runs = blocks;
  for (std::size_t d = 0; d < axis; ++d) runs *= shape[d];
  const auto count = shape.elements() / runs;
  for (std::int64_t run = 0; run < runs; ++run) {
    copy((run * plan.part.of + index) * count, run * count, count);
  }
}

/// `layout` with the split extents of its tensors times `factor` / `divisor`.
StateLayoutPtr resized(const TensorPlan& plan, const StateLayout& layout, std::int64_t factor,
                       std::int64_t divisor) {
  std::vector<StateEntry> entries(layout.entries().begin(), layout.entries().end());
  for (auto& entry : entries) {
    const auto found = plan.slices.find(entry.name);
    if (found == plan.slices.end()) continue;
    std::vector<std::int64_t> dims(entry.shape.dims().begin(), entry.shape.dims().end());
    auto& extent = dims[found->second.axis];
    extent = extent * factor / divisor;
    entry.shape = Shape(dims);
  }
  return std::make_shared<const StateLayout>(std::move(entries));
}

}  // namespace

TensorModel::TensorModel(const nn::ModelSpec& spec, const comm::Comm& tensor)
    : whole_(spec),
      tensor_(tensor),
      axis_(std::make_shared<TensorAxis>(tensor)),
      plan_(plan_on_all(spec, tensor, axis_)) {}

TensorModel::Training TensorModel::training(const nn::Objective& objective) const {
  if (!objective.needs().is_plain()) {
    throw Error("an objective that taps layers, has parts or reads several streams needs the whole model",
                ErrorKind::kUsage)
        .expected("mesh.tensor = 1")
        .got(std::to_string(tensor_.size()))
        .collective();
  }
  if (whole_.classes >= kSplitClasses && tensor_.size() > 1) {
    auto local = plan_tensors(whole_, plan_.part, axis_, true).local;
    auto loss = make_split_cross_entropy(objective, plan_.part, axis_);
    if (loss && local.classes < whole_.classes) return {std::move(local), std::move(loss)};
  }
  return {spec(), nullptr};
}

StateDict TensorModel::slice(const StateDict& whole) const {
  StateDict part(resized(plan_, whole.layout(), 1, plan_.part.of));
  for (const auto& entry : part.layout().entries()) {
    const auto from = whole.values(entry.name);
    const auto to = part.values(entry);
    for_runs(plan_, entry.name, entry.shape, plan_.part.index,
             [&](std::int64_t in_whole, std::int64_t in_part, std::int64_t count) {
               std::copy_n(from.data() + in_whole, count, to.data() + in_part);
             });
  }
  return part;
}

StateDict TensorModel::gather(const StateDict& part, bool keep) const {
  StateDict whole;
  if (keep) whole = StateDict(resized(plan_, part.layout(), plan_.part.of, 1));
  StateDict theirs(part.layout_ptr());
  for (int rank = 0; rank < tensor_.size(); ++rank) {
    if (rank == tensor_.rank()) theirs.copy_from(part);
    tensor_.broadcast(theirs.arena(), rank, "gathering the model");
    if (!keep) continue;
    for (const auto& entry : part.layout().entries()) {
      const auto from = std::as_const(theirs).values(entry);
      const auto to = whole.values(entry.name);
      for_runs(plan_, entry.name, entry.shape, rank,
               [&](std::int64_t in_whole, std::int64_t in_part, std::int64_t count) {
                 std::copy_n(from.data() + in_part, count, to.data() + in_whole);
               });
    }
  }
  return whole;
}

void TensorModel::sum_parts(std::span<const std::string> names, std::span<double> sums) const {
  std::vector<double> split;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (plan_.slices.contains(names[i])) split.push_back(sums[i]);
  }
  axis_->sum(std::span(split));
  auto next = split.begin();
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (plan_.slices.contains(names[i])) sums[i] = *next++;
  }
}

bool TensorModel::any(bool mine) const {
  auto some = static_cast<std::int32_t>(mine);
  tensor_.max_in_place(std::span(&some, 1), "tensor axis");
  return some != 0;
}

double TensorModel::seconds() const noexcept { return axis_->seconds(); }

}  // namespace impart::parallel

#include "impart/core/state_dict.hpp"

#include <algorithm>
#include <utility>

#include "impart/core/error.hpp"

namespace impart {

namespace {

constexpr std::size_t kFloatsPerLine = kAlignment / sizeof(float);

std::size_t padded(std::int64_t elements) {
  return (static_cast<std::size_t>(elements) + kFloatsPerLine - 1) / kFloatsPerLine * kFloatsPerLine;
}

const char* kind_name(StateKind kind) { return kind == StateKind::kParameter ? "parameter" : "buffer"; }

}  // namespace

StateLayout::StateLayout(std::vector<StateEntry> entries) : entries_(std::move(entries)) {
  for (const auto kind : {StateKind::kParameter, StateKind::kBuffer}) {
    for (auto& entry : entries_) {
      if (entry.kind != kind) continue;
      entry.offset = arena_size_;
      arena_size_ += padded(entry.shape.elements());
    }
    if (kind == StateKind::kParameter) parameter_arena_size_ = arena_size_;
  }
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (!index_.emplace(entries_[i].name, i).second) {
      throw Error("two tensors of a model share the name '" + entries_[i].name + "'");
    }
  }
}

const StateEntry* StateLayout::find(std::string_view name) const noexcept {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &entries_[it->second];
}

std::int64_t StateLayout::parameter_count() const noexcept {
  std::int64_t n = 0;
  for (const auto& entry : entries_) {
    if (entry.kind == StateKind::kParameter) n += entry.shape.elements();
  }
  return n;
}

std::optional<std::string> StateLayout::difference(const StateLayout& other) const {
  for (const auto& mine : entries_) {
    const auto* theirs = other.find(mine.name);
    if (theirs == nullptr) return "'" + mine.name + "' is missing";
    if (theirs->shape != mine.shape) {
      return "'" + mine.name + "' is " + mine.shape.str() + " here and " + theirs->shape.str() + " there";
    }
    if (theirs->kind != mine.kind) {
      return "'" + mine.name + "' is a " + kind_name(mine.kind) + " here and a " + kind_name(theirs->kind) +
             " there";
    }
  }
  for (const auto& theirs : other.entries_) {
    if (find(theirs.name) == nullptr) return "'" + theirs.name + "' is unknown here";
  }
  return std::nullopt;
}

StateDict::StateDict(StateLayoutPtr layout)
    : layout_(std::move(layout)), storage_(layout_->arena_size()), arena_(storage_.span()) {}

StateDict StateDict::view(StateLayoutPtr layout, std::span<float> arena) {
  if (arena.size() != layout->arena_size()) throw Error("a view's memory does not fit the model's layout");
  StateDict view;
  view.layout_ = std::move(layout);
  view.arena_ = arena;
  return view;
}

StateDict StateDict::clone() const {
  StateDict copy(layout_);
  copy.copy_from(*this);
  return copy;
}

void StateDict::copy_from(const StateDict& other) {
  if (layout_ != other.layout_) {
    const auto mine = layout_->entries();
    const auto theirs = other.layout_->entries();
    const bool same = std::equal(mine.begin(), mine.end(), theirs.begin(), theirs.end(),
                                 [](const StateEntry& a, const StateEntry& b) {
                                   return a.name == b.name && a.shape == b.shape && a.kind == b.kind;
                                 });
    if (!same) throw Error("cannot copy between models of different layout");
  }
  std::copy(other.arena().begin(), other.arena().end(), arena().begin());
}

std::span<float> StateDict::parameters() noexcept { return arena().first(layout_->parameter_arena_size()); }
std::span<const float> StateDict::parameters() const noexcept {
  return arena().first(layout_->parameter_arena_size());
}
std::span<float> StateDict::buffers() noexcept { return arena().subspan(layout_->parameter_arena_size()); }
std::span<const float> StateDict::buffers() const noexcept {
  return arena().subspan(layout_->parameter_arena_size());
}

std::span<float> StateDict::values(const StateEntry& entry) {
  return arena().subspan(entry.offset, static_cast<std::size_t>(entry.shape.elements()));
}

std::span<const float> StateDict::values(const StateEntry& entry) const {
  return arena().subspan(entry.offset, static_cast<std::size_t>(entry.shape.elements()));
}

std::span<float> StateDict::values(std::string_view name) {
  const auto* entry = layout_->find(name);
  if (entry == nullptr) throw Error("the model has no tensor '" + std::string(name) + "'");
  return values(*entry);
}

std::span<const float> StateDict::values(std::string_view name) const {
  const auto* entry = layout_->find(name);
  if (entry == nullptr) throw Error("the model has no tensor '" + std::string(name) + "'");
  return values(*entry);
}

}  // namespace impart

#include "impart/share/combine/combine.hpp"

#include <fmt/format.h>

#include <optional>
#include <string>
#include <vector>

#include "impart/comm/shard_sums.hpp"
#include "impart/core/error.hpp"

namespace impart::share {

namespace {

/// Reads one tensor after another, of all models, into the same memory.
class Reader {
 public:
  explicit Reader(const CombineInputs& inputs, bool with_base)
      : inputs_(inputs),
        with_base_(with_base),
        scratch_(inputs.models.size() + 1),
        values_(inputs.models.size()) {}

  TensorOfModels read(const StateEntry& entry) {
    for (std::size_t m = 0; m < values_.size(); ++m) values_[m] = inputs_.models[m]->read(entry, scratch_[m]);
    std::span<const float> base;
    if (with_base_) base = inputs_.base->read(entry, scratch_.back());
    return {entry, values_, base};
  }

 private:
  const CombineInputs& inputs_;
  bool with_base_;
  std::vector<std::vector<float>> scratch_;
  std::vector<std::span<const float>> values_;
};

void require_same(const StateLayout& layout, const TensorSource& other) {
  if (const auto difference = layout.difference(*other.layout())) {
    throw Error("models of different architecture cannot be combined").got(*difference);
  }
}

void check(const CombineInputs& inputs, const CombinerNeeds& needs) {
  if (inputs.models.empty()) throw Error("there are no models to combine");
  if (inputs.models.size() < needs.models) {
    throw Error("there are too few models to combine in this way", ErrorKind::kUsage)
        .expected(fmt::format("at least {}", needs.models))
        .got(std::to_string(inputs.models.size()));
  }
  const auto& layout = *inputs.models.front()->layout();
  for (const auto* model : inputs.models.subspan(1)) require_same(layout, *model);
  if (!needs.base) return;
  if (inputs.base == nullptr) {
    throw Error("this way to combine models needs their base, from which they were trained",
                ErrorKind::kUsage);
  }
  require_same(layout, *inputs.base);
}

/// The tensors [begin, end) of a shard: so that each shard has about as many values as the others. Neither this
/// nor the sums over shards depend on the number of ranks.
std::vector<std::size_t> cut(const StateLayout& layout, int shards) {
  std::int64_t total = 0;
  for (const auto& entry : layout.entries()) total += entry.shape.elements();
  std::vector<std::size_t> ends;
  std::int64_t before = 0;
  std::size_t next = 0;
  for (int shard = 0; shard < shards; ++shard) {
    // A tensor belongs to the shard in whose part of all values its middle lies.
    const auto entries = layout.entries();
    while (next < entries.size() &&
           (2 * before + entries[next].shape.elements()) * shards < 2 * total * (shard + 1)) {
      before += entries[next++].shape.elements();
    }
    ends.push_back(shard + 1 == shards ? entries.size() : next);
  }
  return ends;
}

class Combination {
 public:
  Combination(const comm::Comm& comm, int shards, Combiner& combiner, const CombineInputs& inputs)
      : comm_(comm),
        shards_(shards),
        sums_(comm, shards, 1),
        combiner_(combiner),
        layout_(inputs.models.front()->layout()),
        reader_(inputs, combiner.needs().base),
        ends_(cut(*layout_, shards)) {}

  StateDict execute() {
    while (const auto count = combiner_.measures()) measure(count);
    StateDict result(layout_);
    const auto mine = comm::shards_of_rank(comm_.rank(), comm_.size(), shards_);
    comm::agree(comm_, "combining models", [&] {
      for (int shard = mine.begin; shard < mine.end; ++shard) {
        for_tensors(shard, [&](const TensorOfModels& tensor) {
          combiner_.combine(tensor, result.values(tensor.entry));
        });
      }
    });
    gather(result);
    return result;
  }

 private:
  template <class Work>
  void for_tensors(int shard, const Work& work) {
    const auto s = static_cast<std::size_t>(shard);
    for (auto i = s == 0 ? 0 : ends_[s - 1]; i < ends_[s]; ++i) work(reader_.read(layout_->entries()[i]));
  }

  void measure(std::size_t count) {
    std::vector<double> sums(count);
    sums_.sum("measuring models", sums, [&](int shard, std::span<double> part) {
      for_tensors(shard, [&](const TensorOfModels& tensor) { combiner_.measure(tensor, part); });
    });
    combiner_.measured(sums);
  }

  /// What each rank has made, to all.
  void gather(StateDict& result) const {
    if (comm_.size() == 1) return;
    std::size_t i = 0;
    for (int shard = 0; shard < shards_; ++shard) {
      const int owner = shard / (shards_ / comm_.size());
      for (; i < ends_[static_cast<std::size_t>(shard)]; ++i) {
        comm_.broadcast(result.values(layout_->entries()[i]), owner, "combined tensor");
      }
    }
  }

  const comm::Comm& comm_;
  int shards_;
  comm::ShardSums sums_;
  Combiner& combiner_;
  StateLayoutPtr layout_;
  Reader reader_;
  std::vector<std::size_t> ends_;  // of each shard's tensors
};

}  // namespace

StateDict combine(const comm::Comm& comm, int shards, Combiner& combiner, const CombineInputs& inputs) {
  comm::check_rank_count(comm.size(), shards);
  comm::agree(comm, "combining models", [&] {
    check(inputs, combiner.needs());
    combiner.begin(*inputs.models.front()->layout(), inputs.models.size());
  });
  return Combination(comm, shards, combiner, inputs).execute();
}

StateDict combine(Combiner& combiner, std::span<const StateDict* const> models, const StateDict* base) {
  std::vector<StateSource> sources;
  sources.reserve(models.size());
  for (const auto* model : models) sources.emplace_back(*model);
  std::vector<const TensorSource*> pointers;
  for (const auto& source : sources) pointers.push_back(&source);
  CombineInputs inputs{pointers};
  std::optional<StateSource> base_source;
  if (base != nullptr) inputs.base = &base_source.emplace(*base);
  return combine(comm::Comm::self(), 1, combiner, inputs);
}

}  // namespace impart::share

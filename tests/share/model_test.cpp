#include "impart/share/ensemble/model.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "impart/core/error.hpp"
#include "impart/nn/network.hpp"
#include "memory_source.hpp"
#include "train/small_net.hpp"

namespace impart::share {
namespace {

using testing_support::made_up_dataset;
using testing_support::small_net;

class Voters : public testing::Test {
 protected:
  Model make(Voting voting, double weight_of_b = 1.0) {
    return ensemble({{"a", spec_, 1.0}, {"b", spec_, weight_of_b}}, {&a_, &b_}, voting);
  }

  comm::Comm world_ = comm::Comm::world();
  nn::ModelSpec spec_ = small_net();
  StateDict a_ = nn::initial_state(spec_, 1);
  StateDict b_ = nn::initial_state(spec_, 2);
  data::DatasetPtr data_ = made_up_dataset(world_, 100, spec_.input, 4);
};

TEST_F(Voters, SoftVoteIsTheWeightedMeanOfProbabilities) {
  const auto pa = probabilities(world_, single(spec_, a_.clone()), data_, 1.0, 1);
  const auto pb = probabilities(world_, single(spec_, b_.clone()), data_, 1.0, 1);
  const auto vote = probabilities(world_, make(Voting::kSoft, 3.0), data_, 1.0, 1);
  for (std::size_t i = 0; i < vote.values().size(); ++i) {
    ASSERT_NEAR(vote.values()[i], 0.25F * pa.values()[i] + 0.75F * pb.values()[i], 1e-6F);
  }
}

TEST_F(Voters, HardVoteCountsVotes) {
  const auto vote = probabilities(world_, make(Voting::kHard, 3.0), data_, 1.0, 1);
  for (std::size_t i = 0; i < 100; ++i) {
    const auto row = vote.values().subspan(i * 4, 4);
    EXPECT_FLOAT_EQ(std::accumulate(row.begin(), row.end(), 0.0F), 1.0F);
    for (const float p : row) EXPECT_TRUE(p == 0.0F || p == 0.25F || p == 0.75F || p == 1.0F) << p;
  }
}

TEST_F(Voters, ProbabilitiesAreTheSameBitsOnAnyNumberOfRanksAndThreads) {
  const auto model = make(Voting::kSoft);
  const auto self = comm::Comm::self();
  const auto alone = probabilities(self, model, data_, 2.0, 1);
  const auto together = probabilities(world_, model, data_, 2.0, 2);
  EXPECT_TRUE(std::equal(alone.values().begin(), alone.values().end(), together.values().begin()));
  EXPECT_EQ(evaluate(self, model, data_, 2), evaluate(world_, model, data_, 1));
}

TEST_F(Voters, RecordAndBack) {
  for (const auto& model : {make(Voting::kHard, 2.0), single(spec_, a_.clone())}) {
    io::Checkpoint checkpoint;
    checkpoint.model = to_record(model);
    checkpoint.state = model.state.clone();
    const auto back = from_checkpoint(std::move(checkpoint));
    EXPECT_EQ(back.is_ensemble(), model.is_ensemble());
    EXPECT_EQ(back.members[0].spec, model.members[0].spec);
    EXPECT_EQ(back.members.back().weight, model.members.back().weight);
    const auto one = back.member_state(back.members[0]);
    EXPECT_TRUE(std::equal(one.arena().begin(), one.arena().end(), a_.arena().begin()));
  }
}

TEST_F(Voters, AMemberTakesItsInputsAsItWasTrained) {
  const data::Encoding trained{{0.5, {0.1}, {2.0}}};
  const auto model = single(spec_, a_.clone(), trained);
  const auto here = data::encode(data_, {{0.5, {0.1}, {2.0}}});
  const auto there = data::encode(data_, {{0.5, {-1.0}, {0.3}}});
  const auto expected = probabilities(world_, single(spec_, a_.clone()), here, 1.0, 1);
  const auto equals = [&](const Tensor& p) {
    return std::equal(p.values().begin(), p.values().end(), expected.values().begin());
  };
  EXPECT_TRUE(equals(probabilities(world_, model, there, 1.0, 1)));
  EXPECT_FALSE(equals(probabilities(world_, single(spec_, a_.clone()), there, 1.0, 1)));

  io::Checkpoint checkpoint;
  checkpoint.model = to_record(model);
  checkpoint.state = a_.clone();
  const auto digest = io::root_digest(checkpoint.model, a_);
  EXPECT_NE(digest, io::root_digest(to_record(single(spec_, a_.clone())), a_));
  const auto back = from_checkpoint(std::move(checkpoint));
  EXPECT_EQ(back.members[0].encoding, trained);

  // In an ensemble, each its own.
  auto pair = ensemble({{"a", spec_, 1.0, trained}, {"b", spec_, 1.0}}, {&a_, &b_}, Voting::kSoft);
  checkpoint.model = to_record(pair);
  checkpoint.state = pair.state.clone();
  pair = from_checkpoint(std::move(checkpoint));
  EXPECT_EQ(pair.members[0].encoding, trained);
  EXPECT_FALSE(pair.members[1].encoding.has_value());
  EXPECT_EQ(pair.members[1].name, "b");
}

TEST_F(Voters, MergedModelsTakeTheMeanOfTheirEncodings) {
  const auto merged = [&](const std::vector<std::optional<data::Encoding>>& encodings,
                          std::vector<double> weights) {
    std::vector<Member> members;
    std::vector<const Member*> pointers;
    for (const auto& encoding : encodings) members.push_back({"m", spec_, 1.0, encoding});
    for (const auto& member : members) pointers.push_back(&member);
    return std::pair(encodings_differ(pointers), merged_encoding(pointers, weights));
  };
  const data::Encoding one{{0.5, {1.0, 2.0}, {1.0, 3.0}}};
  const data::Encoding two{{0.5, {3.0, 2.0}, {2.0, 1.0}}};
  const data::Encoding plain{{0.5, {}, {}}};
  using Result = std::pair<bool, std::optional<data::Encoding>>;
  EXPECT_EQ(merged({one, one}, {1, 3}), Result(false, one));
  EXPECT_EQ(merged({one, two}, {1, 3}), Result(true, data::Encoding{{0.5, {2.5, 2.0}, {1.75, 1.5}}}));
  EXPECT_EQ(merged({plain, two}, {1, 1}), Result(true, data::Encoding{{0.5, {1.5, 1.0}, {1.5, 1.0}}}));
  EXPECT_EQ(merged({std::nullopt, two}, {1, 1}), Result(true, two));
  EXPECT_EQ(merged({std::nullopt, std::nullopt}, {1, 1}), Result(false, std::nullopt));
  EXPECT_THROW(merged({one, data::Encoding{{0.5, {1.0}, {1.0}}}}, {1, 1}), Error);
  const data::Encoding text{{}, "ab"};
  EXPECT_EQ(merged({text, text}, {1, 1}), Result(false, text));
  EXPECT_THROW(merged({text, data::Encoding{{}, "ac"}}, {1, 1}), Error);
}

TEST_F(Voters, AVocabularyOfAnyBytesComesBack) {
  const data::Encoding text{{}, std::string("\0\n\"a\xff", 5)};
  io::Checkpoint checkpoint;
  checkpoint.model = to_record(single(spec_, a_.clone(), text));
  checkpoint.state = a_.clone();
  EXPECT_EQ(from_checkpoint(std::move(checkpoint)).members[0].encoding, text);
}

TEST_F(Voters, RefusesTensorsThatDoNotFitTheDescription) {
  io::Checkpoint checkpoint;
  checkpoint.model = to_record(single(small_net(7), {}));
  checkpoint.state = a_.clone();
  EXPECT_THROW(from_checkpoint(std::move(checkpoint)), Error);
  io::Checkpoint nonsense;
  nonsense.model.spec = "{\"ensemble\": 3}";
  nonsense.state = a_.clone();
  EXPECT_THROW(from_checkpoint(std::move(nonsense)), Error);
}

TEST_F(Voters, RefusesMembersThatDoNotFitTogether) {
  const auto other = small_net(5);
  const auto c = nn::initial_state(other, 1);
  EXPECT_THROW(ensemble({{"a", spec_, 1.0}, {"c", other, 1.0}}, {&a_, &c}, Voting::kSoft), Error);
  EXPECT_THROW(ensemble({{"a", spec_, 1.0}}, {&a_}, Voting::kSoft), Error);
  EXPECT_THROW(ensemble({{"a", spec_, 1.0}, {"a", spec_, 1.0}}, {&a_, &b_}, Voting::kSoft), Error);
  EXPECT_THROW(ensemble({{"a", spec_, 1.0}, {"b", spec_, 0.0}}, {&a_, &b_}, Voting::kSoft), Error);
  EXPECT_THROW(
      ensemble({{"a", spec_, 1.0, data::Encoding{{}, "ab"}}, {"b", spec_, 1.0}}, {&a_, &b_}, Voting::kSoft),
      Error);
  EXPECT_THROW(parse_voting("loud"), Error);
}

}  // namespace
}  // namespace impart::share

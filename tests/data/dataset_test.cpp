#include "impart/data/dataset.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "impart/core/error.hpp"
#include "memory_source.hpp"

namespace impart::data {
namespace {

using testing_support::made_up_dataset;
using testing_support::MemorySource;

std::vector<float> sample(const Dataset& dataset, std::int64_t i) {
  std::vector<float> values(static_cast<std::size_t>(dataset.sample_shape().elements()));
  dataset.get(i, values);
  return values;
}

TEST(ReadDataset, AllRanksSeeWhatTheWriterRead) {
  const auto world = comm::Comm::world();
  MemorySource source(Shape{2}, {1, 2, 3, 4, 5, 6}, {0, 1, 1});
  const auto dataset = read_dataset(world, source, "three", 2);
  ASSERT_EQ(dataset->size(), 3);
  EXPECT_EQ(sample(*dataset, 1), (std::vector<float>{3, 4}));
  EXPECT_EQ(dataset->label(2), 1);
  EXPECT_EQ(dataset->id(2), 2U);
  EXPECT_NE(dataset->digest(0), dataset->digest(1));
}

TEST(ReadDataset, LabelOutsideTheClassesFailsOnEveryRank) {
  const auto world = comm::Comm::world();
  MemorySource source(Shape{1}, {1, 2, 3}, {0, 1, 2});
  try {
    read_dataset(world, source, "three", 2);
    FAIL() << "label 2 of 2 classes was accepted";
  } catch (const Error& e) {
    EXPECT_TRUE(e.is_collective());
    EXPECT_STREQ(e.what(),
                 "dataset three: label outside the classes: expected 0 to 1, got 2 at sample 2 (check "
                 "`classes` of the "
                 "dataset)");
  }
}

TEST(Subset, PicksAndKeepsIdentity) {
  const auto base = made_up_dataset(comm::Comm::world(), 10, Shape{3}, 5);
  const auto part = subset(base, {7, 2});
  ASSERT_EQ(part->size(), 2);
  EXPECT_EQ(sample(*part, 0), sample(*base, 7));
  EXPECT_EQ(part->label(1), base->label(2));
  EXPECT_EQ(part->id(0), 7U);
  EXPECT_EQ(part->digest(0), base->digest(7));
  EXPECT_NE(fingerprint(*part), fingerprint(*subset(base, {2, 7})));
}

TEST(Resize, InterpolatesBetweenPixelCentres) {
  const auto world = comm::Comm::world();
  MemorySource source(Shape{1, 1, 2}, {0, 1}, {0});
  const auto wide = resize(read_dataset(world, source, "two pixels", 1), 1, 4);
  EXPECT_EQ(sample(*wide, 0), (std::vector<float>{0.0F, 0.25F, 0.75F, 1.0F}));
}

TEST(Resize, SameSizeIsTheSameImage) {
  const auto base = made_up_dataset(comm::Comm::world(), 2, Shape{2, 5, 7}, 2);
  EXPECT_EQ(sample(*resize(base, 5, 7), 1), sample(*base, 1));
}

TEST(Resize, RefusesRowsOfFeatures) {
  const auto base = made_up_dataset(comm::Comm::world(), 2, Shape{8}, 2);
  EXPECT_THROW(resize(base, 4, 4), Error);
}

TEST(Normalise, GivesEachChannelMeanZeroAndDeviationOne) {
  const auto world = comm::Comm::world();
  const auto base = made_up_dataset(world, 600, Shape{2, 3, 3}, 4);
  const auto flat = encode(base, {channel_statistics(world, *base, 0.5)});
  for (std::size_t channel = 0; channel < 2; ++channel) {
    double sum = 0;
    double squares = 0;
    for (std::int64_t i = 0; i < flat->size(); ++i) {
      const auto values = sample(*flat, i);
      for (std::size_t p = 0; p < 9; ++p) {
        sum += values[channel * 9 + p];
        squares += values[channel * 9 + p] * values[channel * 9 + p];
      }
    }
    EXPECT_NEAR(sum / (600 * 9), 0, 1e-5);
    EXPECT_NEAR(squares / (600 * 9), 1, 1e-5);
  }
}

TEST(Encode, RefusesAnotherNumberOfChannels) {
  const auto base = made_up_dataset(comm::Comm::world(), 4, Shape{3, 2, 2}, 2);
  EXPECT_THROW(encode(base, {{1.0, {0.0}, {1.0}}}), Error);
  EXPECT_THROW(encode(base, {{1.0, {0.0, 0.0, 0.0}, {1.0, 0.0, 1.0}}}), Error);
}

TEST(EncodedAs, TakesTheModelsStatisticsAndTheDatasetsScale) {
  const auto world = comm::Comm::world();
  MemorySource bytes(Shape{2}, {0, 255, 51, 102}, {0, 1});
  MemorySource parts(Shape{2}, {0, 1, 0.2F, 0.4F}, {0, 1});
  const Encoding trained{{1.0 / 255, {0.5}, {0.25}}};
  const auto own = encode(read_dataset(world, bytes, "bytes", 2), trained);
  const auto other = encode(read_dataset(world, parts, "parts", 2), {{1.0, {0.1}, {3.0}}});
  EXPECT_EQ(encoded_as(own, trained), own);  // nothing to do
  for (const auto& dataset :
       {subset(encoded_as(other, trained), {0, 1}), encoded_as(subset(other, {0, 1}), trained)}) {
    for (std::int64_t i = 0; i < 2; ++i) {
      const auto a = sample(*own, i);
      const auto b = sample(*dataset, i);
      for (std::size_t k = 0; k < 2; ++k) EXPECT_NEAR(a[k], b[k], 1e-6);
    }
  }
}

TEST(Sequences, HaveALabelForEachPlace) {
  const auto world = comm::Comm::world();
  const auto dataset = testing_support::made_up_sequences(world, 10, 4, 6);
  const auto part = subset(dataset, {9, 3});
  ASSERT_EQ(part->labels_per_sample(), 4);
  std::vector<std::int32_t> labels(4);
  part->labels(1, labels);
  const auto values = sample(*part, 1);
  for (std::size_t k = 0; k + 1 < 4; ++k) EXPECT_EQ(labels[k], static_cast<std::int32_t>(values[k + 1]));
  EXPECT_EQ(part->label(1), labels.front());
  EXPECT_NE(dataset->digest(0), dataset->digest(1));
}

TEST(Sequences, TakeTheIndicesOfTheModelsVocabulary) {
  const auto world = comm::Comm::world();
  const auto text = encode(testing_support::made_up_sequences(world, 3, 5, 3), {{}, "ace"});
  EXPECT_EQ(encoded_as(text, {{}, "ace"}), text);
  const auto recoded = encoded_as(text, {{}, "abcde"});
  EXPECT_EQ(recoded->classes(), 5);
  std::vector<std::int32_t> labels(5);
  std::vector<std::int32_t> others(5);
  for (std::int64_t i = 0; i < 3; ++i) {
    const auto values = sample(*text, i);
    const auto other_values = sample(*recoded, i);
    text->labels(i, labels);
    recoded->labels(i, others);
    for (std::size_t k = 0; k < 5; ++k) {
      EXPECT_EQ(other_values[k], 2 * values[k]);
      EXPECT_EQ(others[k], 2 * labels[k]);
    }
    EXPECT_EQ(recoded->label(i), others.front());
  }
  EXPECT_THROW(encoded_as(text, {{}, "abcd"}), Error);  // no e
  EXPECT_THROW(encoded_as(text, Encoding{}), Error);    // a model of something else
  EXPECT_THROW(encoded_as(encode(made_up_dataset(world, 4, Shape{5}, 3), {}), {{}, "ace"}), Error);
}

TEST(ChannelStatistics, AreTheSameBitsOnOneRankAndOnMany) {
  const auto world = comm::Comm::world();
  const auto base = made_up_dataset(world, 1500, Shape{3, 2, 2}, 4);
  const auto many = channel_statistics(world, *base, 1.0 / 3);
  const auto one = channel_statistics(comm::Comm::self(), *base, 1.0 / 3);
  EXPECT_EQ(many.mean, one.mean);
  EXPECT_EQ(many.deviation, one.deviation);
}

TEST(ChannelStatistics, ConstantChannelIsNotBlownUp) {
  const auto world = comm::Comm::world();
  MemorySource source(Shape{2}, {0.1F, 0.1F, 0.1F, 0.1F}, {0, 0});
  const auto base = read_dataset(world, source, "constant", 1);
  EXPECT_EQ(channel_statistics(world, *base, 1.0).deviation, std::vector<double>{1.0});
}

}  // namespace
}  // namespace impart::data

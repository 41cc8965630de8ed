// Each change against plain loops; draws by their statistics; the loader on any number of ranks.

#include "impart/data/augment.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "data/augment/image_changes.hpp"
#include "impart/core/error.hpp"
#include "impart/data/batch_loader.hpp"
#include "memory_source.hpp"

namespace impart::data {
namespace {

using testing_support::made_up_dataset;

constexpr ImageSize kSize{2, 5, 7};

std::vector<float> made_up_image(const ImageSize& size) {
  std::vector<float> image(static_cast<std::size_t>(size.channels * size.height * size.width));
  Rng rng(3, "image");
  for (auto& value : image) value = static_cast<float>(rng.normal());
  return image;
}

float at(std::span<const float> image, const ImageSize& size, std::int64_t c, std::int64_t y,
         std::int64_t x) {
  return image[static_cast<std::size_t>((c * size.height + y) * size.width + x)];
}

/// Calls `check` for every channel, row and column.
template <class Check>
void for_each_pixel(const ImageSize& size, const Check& check) {
  for (std::int64_t c = 0; c < size.channels; ++c) {
    for (std::int64_t y = 0; y < size.height; ++y) {
      for (std::int64_t x = 0; x < size.width; ++x) check(c, y, x);
    }
  }
}

TEST(Flip, LeftAndRightOrUpsideDown) {
  const auto image = made_up_image(kSize);
  auto mirrored = image;
  flip(mirrored, kSize, false);
  auto upside_down = image;
  flip(upside_down, kSize, true);
  for_each_pixel(kSize, [&](auto c, auto y, auto x) {
    EXPECT_EQ(at(mirrored, kSize, c, y, x), at(image, kSize, c, y, kSize.width - 1 - x));
    EXPECT_EQ(at(upside_down, kSize, c, y, x), at(image, kSize, c, kSize.height - 1 - y, x));
  });
}

TEST(Translate, EveryOffsetInEveryMode) {
  const auto image = made_up_image(kSize);
  auto moved = image;
  for (std::int64_t down = -4; down <= 4; ++down) {
    for (std::int64_t right = -6; right <= 6; ++right) {
      for (const auto mode : {PaddingMode::kConstant, PaddingMode::kEdge, PaddingMode::kReflect}) {
        translate(image, kSize, down, right, mode, 0.5F, moved);
        for_each_pixel(kSize, [&](auto c, auto y, auto x) {
          auto row = y + down;
          auto column = x + right;
          float expected = 0.5F;
          if (mode == PaddingMode::kEdge) {
            row = std::clamp<std::int64_t>(row, 0, kSize.height - 1);
            column = std::clamp<std::int64_t>(column, 0, kSize.width - 1);
          } else if (mode == PaddingMode::kReflect) {
            row = row < 0 ? -row : row >= kSize.height ? 2 * kSize.height - 2 - row : row;
            column = column < 0 ? -column : column >= kSize.width ? 2 * kSize.width - 2 - column : column;
          }
          if (row >= 0 && row < kSize.height && column >= 0 && column < kSize.width) {
            expected = at(image, kSize, c, row, column);
          }
          EXPECT_EQ(at(moved, kSize, c, y, x), expected);
        });
      }
    }
  }
}

TEST(Rotate, AQuarterTurnMovesWholePixelsAnticlockwise) {
  constexpr ImageSize square{2, 5, 5};
  const auto image = made_up_image(square);
  auto turned = image;
  rotate(image, square, 90, 0.0F, turned);
  // What was at the right is at the top now.
  for_each_pixel(square, [&](auto c, auto y, auto x) {
    EXPECT_NEAR(at(turned, square, c, y, x), at(image, square, c, x, 4 - y), 1e-5);
  });
  rotate(image, square, 0, 0.0F, turned);
  EXPECT_EQ(turned, image);
}

TEST(Rotate, IsBilinearWithTheFillOutside) {
  constexpr float kFill = 3.0F;
  const auto image = made_up_image(kSize);
  auto turned = image;
  rotate(image, kSize, 30, kFill, turned);
  const double angle = 30 * std::acos(-1.0) / 180;
  int outside = 0;
  for_each_pixel(kSize, [&](auto c, auto y, auto x) {
    const double dy = static_cast<double>(y) - 2;
    const double dx = static_cast<double>(x) - 3;
    const double from_x = std::cos(angle) * dx - std::sin(angle) * dy + 3;
    const double from_y = std::sin(angle) * dx + std::cos(angle) * dy + 2;
    double expected = 0;
    for (int corner = 0; corner < 4; ++corner) {
      const double column = std::floor(from_x) + corner % 2;
      const double row = std::floor(from_y) + corner / 2;
      const double weight = (1 - std::fabs(from_x - column)) * (1 - std::fabs(from_y - row));
      const bool in = column >= 0 && column < 7 && row >= 0 && row < 5;
      const double value = in ? static_cast<double>(at(image, kSize, c, static_cast<std::int64_t>(row),
                                                       static_cast<std::int64_t>(column)))
                              : static_cast<double>(kFill);
      expected += weight * value;
      outside += in ? 0 : 1;
    }
    EXPECT_NEAR(at(turned, kSize, c, y, x), expected, 1e-4);
  });
  EXPECT_GT(outside, 0);
}

TEST(Boxes, FillAndPasteWhatLiesInTheImage) {
  const auto image = made_up_image(kSize);
  auto filled = image;
  const auto box = clipped({-1, 4, 2, 9}, kSize);
  fill_box(filled, kSize, box, 9.0F);
  std::vector<float> other(image.size(), 4.0F);
  auto pasted = image;
  paste_box(pasted, other, kSize, box);
  for_each_pixel(kSize, [&](auto c, auto y, auto x) {
    const bool in = y < 2 && x >= 4;
    EXPECT_EQ(at(filled, kSize, c, y, x), in ? 9.0F : at(image, kSize, c, y, x));
    EXPECT_EQ(at(pasted, kSize, c, y, x), in ? 4.0F : at(image, kSize, c, y, x));
  });
}

TEST(Noise, IsNormal) {
  std::vector<float> values(200'000, 1.0F);
  Rng rng(5, "noise");
  add_noise(values, 0.5F, rng);
  double sum = 0;
  double squares = 0;
  double fourth = 0;
  int beyond = 0;  // two deviations
  for (const float value : values) {
    const double z = (static_cast<double>(value) - 1) / 0.5;
    sum += z;
    squares += z * z;
    fourth += z * z * z * z;
    beyond += std::fabs(z) > 2 ? 1 : 0;
  }
  const auto n = static_cast<double>(values.size());
  EXPECT_NEAR(sum / n, 0, 0.01);
  EXPECT_NEAR(squares / n, 1, 0.015);
  EXPECT_NEAR(fourth / n, 3, 0.12);
  EXPECT_NEAR(beyond / n, 0.0455, 0.002);
}

/// Samples that say which they are: every value is the row.
DatasetPtr numbered(std::int64_t n, const Shape& shape) {
  std::vector<float> values;
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < n; ++i) {
    values.insert(values.end(), static_cast<std::size_t>(shape.elements()), static_cast<float>(i));
    labels.push_back(static_cast<std::int32_t>(i % 5));
  }
  testing_support::MemorySource source(shape, std::move(values), std::move(labels));
  return read_dataset(comm::Comm::world(), source, "numbered", 5);
}

AugmentationPtr of_kind(const char* kind) { return make_augmentation({{"kind", kind}}); }

std::vector<float> sample_of(Augmenter& augmenter, const Shape& shape, std::int64_t row, std::int64_t epoch) {
  std::vector<float> out(static_cast<std::size_t>(shape.elements()));
  augmenter.get(row, epoch, out);
  return out;
}

TEST(Augmenter, FlipsAsOftenAsItShould) {
  const Shape shape{1, 1, 2};
  testing_support::MemorySource source(shape, {1, 2}, {0});
  const auto dataset = read_dataset(comm::Comm::world(), source, "pair", 1);
  for (const double probability : {0.0, 0.3, 1.0}) {
    Augmenter augmenter(dataset, {make_augmentation({{"kind", "flip"}, {"probability", probability}})}, 7);
    int flipped = 0;
    for (std::int64_t epoch = 0; epoch < 10'000; ++epoch) {
      flipped += sample_of(augmenter, shape, 0, epoch).front() == 2 ? 1 : 0;
    }
    EXPECT_NEAR(flipped / 1e4, probability, 0.02);
  }
}

TEST(Augmenter, CropsAreEverywhereWithinThePadding) {
  const Shape shape{1, 9, 9};
  std::vector<float> image(81, 0.0F);
  image[4 * 9 + 4] = 1.0F;  // one point in the middle
  testing_support::MemorySource source(shape, image, {0});
  const auto dataset = read_dataset(comm::Comm::world(), source, "point", 1);
  Augmenter augmenter(dataset, {make_augmentation({{"kind", "crop"}, {"padding", 2}})}, 7);
  std::map<std::size_t, int> places;
  for (std::int64_t epoch = 0; epoch < 5'000; ++epoch) {
    const auto out = sample_of(augmenter, shape, 0, epoch);
    ++places[static_cast<std::size_t>(std::find(out.begin(), out.end(), 1.0F) - out.begin())];
  }
  EXPECT_EQ(places.size(), 25U);
  for (const auto& [place, count] : places) {
    EXPECT_NEAR(static_cast<double>(place / 9), 4, 2);
    EXPECT_NEAR(static_cast<double>(place % 9), 4, 2);
    EXPECT_NEAR(count, 200, 60);
  }
}

TEST(Augmenter, CutoutErasesASquareAboutAnyPixel) {
  const Shape shape{2, 8, 8};
  const auto dataset = numbered(2, shape);
  Augmenter augmenter(dataset, {make_augmentation({{"kind", "cutout"}, {"fill", -1}, {"size", 4}})}, 7);
  std::set<std::int64_t> sizes;
  for (std::int64_t epoch = 0; epoch < 500; ++epoch) {
    const auto out = sample_of(augmenter, shape, 1, epoch);
    sizes.insert(std::count(out.begin(), out.end(), -1.0F));
  }
  EXPECT_EQ(*sizes.begin(), 2 * 2 * 2);  // at a corner
  EXPECT_EQ(*sizes.rbegin(), 2 * 4 * 4);
}

TEST(Augmenter, MixupIsAMeanWithTheShare) {
  const Shape shape{3};
  const auto dataset = numbered(100, shape);
  Augmenter augmenter(dataset,
                      {make_augmentation({{"kind", "mixup"}, {"probability", 0.75}, {"alpha", 0.4}})}, 7);
  ASSERT_TRUE(augmenter.mixes());
  int mixed = 0;
  double sum = 0;
  double squares = 0;
  for (std::int64_t row = 0; row < 100; ++row) {
    for (std::int64_t epoch = 0; epoch < 100; ++epoch) {
      std::vector<float> out(3);
      const auto [partner, lambda] = augmenter.get(row, epoch, out);
      EXPECT_NEAR(out[1], lambda * static_cast<float>(row) + (1 - lambda) * static_cast<float>(partner),
                  1e-4);
      if (lambda == 1.0F) continue;
      ++mixed;
      sum += static_cast<double>(lambda);
      squares += static_cast<double>(lambda * lambda);
    }
  }
  EXPECT_NEAR(mixed / 1e4, 0.75, 0.02);
  // Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2a + 1)).
  const double mean = sum / mixed;
  EXPECT_NEAR(mean, 0.5, 0.02);
  EXPECT_NEAR(squares / mixed - mean * mean, 1 / (4 * 1.8), 0.01);
}

TEST(Augmenter, CutmixPastesARectangleOfTheRestOfTheShare) {
  const Shape shape{2, 8, 8};
  const auto dataset = numbered(50, shape);
  Augmenter augmenter(dataset, {of_kind("cutmix")}, 7);
  double sum = 0;
  for (std::int64_t row = 0; row < 50; ++row) {
    for (std::int64_t epoch = 0; epoch < 20; ++epoch) {
      std::vector<float> out(128);
      const auto [partner, lambda] = augmenter.get(row, epoch, out);
      if (partner == row) continue;
      const auto own = std::count(out.begin(), out.end(), static_cast<float>(row));
      const auto other = std::count(out.begin(), out.end(), static_cast<float>(partner));
      EXPECT_EQ(own + other, 128);
      EXPECT_FLOAT_EQ(lambda, static_cast<float>(own) / 128);
      sum += static_cast<double>(lambda);
    }
  }
  EXPECT_GT(sum / 1000, 0.5);  // the part of the rectangle outside is cut off
  EXPECT_LT(sum / 1000, 0.8);
}

TEST(Augmenter, APartnerIsChangedAsItIsItself) {
  const Shape shape{1, 1, 2};
  testing_support::MemorySource source(shape, {1, 2, 10, 20}, {0, 1});
  const auto dataset = read_dataset(comm::Comm::world(), source, "pairs", 2);
  const auto flip_half = make_augmentation({{"kind", "flip"}, {"probability", 0.5}});
  Augmenter plain(dataset, {flip_half}, 7);
  Augmenter mixing(dataset, {flip_half, of_kind("mixup")}, 7);
  for (std::int64_t epoch = 0; epoch < 50; ++epoch) {
    const auto own = sample_of(plain, shape, 0, epoch);
    std::vector<float> out(2);
    const auto [partner, lambda] = mixing.get(0, epoch, out);
    const auto other = sample_of(plain, shape, partner, epoch);
    EXPECT_FLOAT_EQ(out[0], lambda * own[0] + (1 - lambda) * other[0]);
    EXPECT_FLOAT_EQ(out[1], lambda * own[1] + (1 - lambda) * other[1]);
  }
}

TEST(Augmenter, OfTwoMixingKindsASampleGetsOne) {
  const Shape shape{1, 8, 8};
  const auto dataset = numbered(50, shape);
  Augmenter augmenter(dataset, {of_kind("mixup"), of_kind("cutmix")}, 7);
  int pasted = 0;
  for (std::int64_t row = 0; row < 50; ++row) {
    for (std::int64_t epoch = 0; epoch < 40; ++epoch) {
      const auto out = sample_of(augmenter, shape, row, epoch);
      // A mixed-up sample has one value everywhere, and it is hardly ever a whole number.
      const bool whole = std::all_of(out.begin(), out.end(), [](float x) { return x == std::floor(x); });
      pasted += whole ? 1 : 0;
    }
  }
  EXPECT_NEAR(pasted / 2000.0, 0.51, 0.06);
}

TEST(Augmenter, RefusesWhatDoesNotFitTheSamples) {
  const auto refused = [](const AugmentationPtr& what, const Shape& shape) {
    EXPECT_THROW(what->check(shape), Error);
  };
  for (const auto* kind : {"flip", "crop", "rotate", "shift", "cutout", "cutmix"}) {
    refused(of_kind(kind), Shape{64});
    EXPECT_NO_THROW(of_kind(kind)->check(Shape{3, 32, 32}));
  }
  EXPECT_NO_THROW(of_kind("noise")->check(Shape{64}));
  EXPECT_NO_THROW(of_kind("mixup")->check(Shape{64}));
  refused(make_augmentation({{"kind", "crop"}, {"padding", 8}}), Shape{1, 8, 9});
  refused(make_augmentation({{"kind", "cutout"}, {"size", 9}}), Shape{1, 8, 9});
}

TEST(Augmentation, RefusesSettingsOutsideTheirRanges) {
  const auto refused = [](const SettingTable& table) { EXPECT_THROW(make_augmentation(table), Error); };
  refused({{"kind", "mixup"}, {"alpha", 0}});
  refused({{"kind", "shift"}, {"translate", 1}});
  refused({{"kind", "flip"}, {"probability", 1.5}});
  refused({{"kind", "noise"}, {"deviation", 0.5}});
  refused({{"kind", "cutout"}, {"holes", 0}});
  refused({{"kind", "mixdown"}});
  refused({});
}

TEST(Augmentation, EachTellsItsSettings) {
  const auto docs = augmentations().document();
  ASSERT_EQ(docs.size(), 8U);
  for (const auto& kind : docs) EXPECT_EQ(kind.settings.front().key, "probability") << kind.name;
  EXPECT_EQ(docs.front().settings.front().fallback, "0.5");
}

TEST(Augmenter, RefusesSequences) {
  const auto text = testing_support::made_up_sequences(comm::Comm::world(), 4, 5, 3);
  EXPECT_NO_THROW(Augmenter(text, {}, 7));
  EXPECT_THROW(Augmenter(text, {of_kind("noise")}, 7), Error);
}

constexpr int kShards = 4;

LoaderOptions everything(int rank, int ranks) {
  return {8,
          kShards,
          comm::shards_of_rank(rank, ranks, kShards),
          7,
          {},
          {make_augmentation({{"kind", "flip"}, {"probability", 0.5}}), of_kind("crop"), of_kind("rotate"),
           of_kind("shift"), make_augmentation({{"kind", "cutout"}, {"size", 4}}), of_kind("noise"),
           of_kind("mixup"), of_kind("cutmix")}};
}

/// Inputs, labels and shares, bit for bit.
void expect_equal(const ShardBatch& a, const ShardBatch& b) {
  const auto equal = [](const auto& x, const auto& y) {
    return x.size() == y.size() && std::equal(x.begin(), x.end(), y.begin());
  };
  EXPECT_TRUE(equal(a.inputs, b.inputs));
  EXPECT_TRUE(equal(a.labels, b.labels));
  EXPECT_TRUE(equal(a.other_labels, b.other_labels));
  EXPECT_TRUE(equal(a.lambda, b.lambda));
}

TEST(AugmentedLoader, GivesTheSameBitsOnAnyRanks) {
  const auto world = comm::Comm::world();
  const auto dataset = made_up_dataset(world, 37, Shape{3, 8, 8}, 5);
  BatchLoader mine(dataset, everything(world.rank(), world.size()));
  BatchLoader all(dataset, everything(0, 1));
  const auto range = comm::shards_of_rank(world.rank(), world.size(), kShards);
  for (int step = 0; step < 12; ++step) {
    const auto& part = mine.next();
    const auto& whole = all.next();
    for (int shard = range.begin; shard < range.end; ++shard) {
      const auto& one = part.shards[static_cast<std::size_t>(shard - range.begin)];
      EXPECT_EQ(one.lambda.size(), one.labels.size());
      expect_equal(one, whole.shards[static_cast<std::size_t>(shard)]);
    }
  }
}

TEST(AugmentedLoader, GoesOnInTheMiddleOfAnEpoch) {
  const auto dataset = made_up_dataset(comm::Comm::world(), 37, Shape{3, 8, 8}, 5);
  BatchLoader whole(dataset, everything(0, 1));
  for (int step = 0; step < 7; ++step) whole.next();
  BatchLoader later(dataset, everything(0, 1), 7);
  for (int step = 7; step < 14; ++step) {
    const auto& a = whole.next();
    const auto& b = later.next();
    for (std::size_t shard = 0; shard < kShards; ++shard) expect_equal(a.shards[shard], b.shards[shard]);
  }
}

TEST(AugmentedLoader, AnEpochShowsOtherChangesThanTheLast) {
  const auto dataset = numbered(8, Shape{1, 8, 8});
  auto options = everything(0, 1);
  options.sampler = make_sampler("sequential");
  options.augment = {of_kind("noise")};
  BatchLoader loader(dataset, options);
  const auto inputs = loader.next().shards[0].inputs;
  const std::vector<float> first(inputs.begin(), inputs.end());
  const auto& second = loader.next().shards[0];
  EXPECT_TRUE(second.lambda.empty());
  EXPECT_FALSE(std::equal(second.inputs.begin(), second.inputs.end(), first.begin()));
}

}  // namespace
}  // namespace impart::data

#include "impart/train/capabilities.hpp"

#include <gmock/gmock.h>

#include "impart/train/trainer.hpp"
#include "small_net.hpp"

namespace impart::train {

void PrintTo(const Conflict& conflict, std::ostream* out) { *out << conflict.key << ": " << conflict.text; }

namespace {

using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;

auto conflict(const std::string& key, const std::string& text) {
  return testing::AllOf(Field(&Conflict::key, key), Field(&Conflict::text, HasSubstr(text)));
}

TEST(Capabilities, ARefusalIsToldWhereTheFeatureIsOrWhereItIsRefused) {
  const Capabilities user{.key = "a",
                          .uses = {{Feature::kAverage, {"average"}}, {Feature::kFreeze, {"freeze"}}}};
  const Capabilities other{
      .key = "b", .refuses = {{Feature::kFreeze, {"wants all", true}}, {Feature::kAverage, {"wants none"}}}};
  EXPECT_THAT(conflicts(std::vector{other, user}),
              ElementsAre(conflict("average", "wants none"), conflict("b", "wants all")));
  EXPECT_THAT(conflicts(std::vector{user}), IsEmpty());
  EXPECT_THAT(conflicts(std::vector{other}), IsEmpty());
}

TEST(Capabilities, WhatIsToldTwiceIsToldOnce) {
  const Capabilities user{.key = "a", .uses = {{Feature::kAverage, {"average"}}}};
  const Capabilities other{.key = "b", .refuses = {{Feature::kAverage, {"wants none"}}}};
  EXPECT_EQ(conflicts(std::vector{user, other, user, other}).size(), 1U);
}

TEST(Capabilities, ANeedIsMetByWhoeverUsesTheFeature) {
  const Capabilities needs{.key = "keep", .needs = {{Feature::kValidation, "needs validation data"}}};
  EXPECT_THAT(conflicts(std::vector{needs}), ElementsAre(conflict("keep", "needs validation data")));
  const Capabilities data{.key = "dataset", .uses = {{Feature::kValidation, {"dataset"}}}};
  EXPECT_THAT(conflicts(std::vector{needs, data}), IsEmpty());
}

TEST(Capabilities, TheLayerIsNamed) {
  TrainerOptions options;
  options.local_steps = 2;
  auto all = capabilities_of(options);
  auto spec = testing_support::small_net();
  all.push_back(capabilities_of(spec, options.groups));
  EXPECT_THAT(conflicts(all), IsEmpty());
  for (auto& layer : spec.layers) {
    if (layer.kind == "batch_norm") put_setting(layer.settings, "sync", true);
  }
  all.back() = capabilities_of(spec, options.groups);
  const auto found = conflicts(all);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].key, "local_steps");
  EXPECT_THAT(found[0].text,
              testing::AllOf(HasSubstr("layer 'bn"), HasSubstr("each shard trains by itself")));
  options.groups = {{.pattern = "bn*", .frozen = true}};
  all.back() = capabilities_of(spec, options.groups);
  EXPECT_THAT(conflicts(all), IsEmpty());
}

TEST(Capabilities, OfTheOptionsOfARun) {
  const auto found = [](const TrainerOptions& options) { return conflicts(capabilities_of(options)); };
  TrainerOptions options;
  EXPECT_THAT(found(options), IsEmpty());
  options.average = make_average({{"kind", "swa"}});
  EXPECT_THAT(found(options), IsEmpty());
  options.keep = Keep::kBest;
  EXPECT_THAT(found(options), ElementsAre(conflict("keep", "the best of them cannot be")));

  options = TrainerOptions();
  options.local_steps = 4;
  options.accumulate = 2;
  options.mesh.tensor = 2;
  EXPECT_THAT(found(options), ElementsAre(conflict("local_steps", "every local step is an update"),
                                          conflict("local_steps", "each shard trains the whole model")));
  options = TrainerOptions();
  options.solver = make_solver({{"kind", "lbfgs"}});
  options.mesh.tensor = 2;
  options.transforms = {make_proximal(1)};
  EXPECT_THAT(found(options), ElementsAre(conflict("transforms", "lbfgs takes no gradient transforms"),
                                          conflict("mesh", "a solver needs the whole model")));
}

TEST(Capabilities, MeasuredEpochsNeedValidationData) {
  TrainerOptions options;
  EXPECT_THAT(conflicts(validation_needs(options)), IsEmpty());
  options.keep = Keep::kBest;
  options.patience = 1;
  options.schedule = make_schedule({{"kind", "plateau"}});
  EXPECT_EQ(conflicts(validation_needs(options)).size(), 3U);
}

}  // namespace
}  // namespace impart::train

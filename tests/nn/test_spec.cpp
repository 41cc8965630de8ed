// Model descriptions: names, JSON, and what is said about models that cannot be built.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "impart/core/error.hpp"
#include "nn/nn_testing.hpp"

namespace impart::nn::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// What check_model says; "" when it accepts the model. Any other error than a usage error fails the test.
std::string complaint(const ModelSpec& spec) {
  try {
    check_model(spec);
    return "";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUsage) << e.what();
    return e.what();
  }
}

ModelSpec with_layer(const LayerSpec& spec) {
  return model({1, 8, 8}, 10, {spec, layer("flatten"), dense(10)});
}

TEST(Spec, NamesCountByKindAndSkipTakenOnes) {
  ModelSpec spec{
      "m",
      {1, 8, 8},
      4,
      {conv2d(2, 3), layer("relu"), layer("conv2d", {}, "conv2"), conv2d(2, 3), layer("batch_norm"),
       pool("max_pool2d", 2, 2), pool("avg_pool2d", 2, 2), layer("flatten"), dense(4)}};
  name_layers(spec);
  std::vector<std::string> names;
  for (const auto& l : spec.layers) names.push_back(l.name);
  EXPECT_THAT(names, ::testing::ElementsAre("conv1", "relu1", "conv2", "conv3", "bn1", "pool1", "pool2",
                                            "flatten1", "dense1"));
}

TEST(Spec, JsonRoundTripKeepsEverything) {
  const auto spec =
      model({1, 8, 8}, 4,
            {layer("conv2d", {{"kernel", whole(3)}, {"filters", whole(2)}, {"bias", false}}),
             layer("dropout", {{"rate", 0.25}}), layer("dropout", {{"rate", 0.0}}), layer("flatten"),
             layer("dense", {{"units", whole(4)}, {"init", std::string("glorot")}}, "head.new-1")});
  const auto text = to_json(spec);
  EXPECT_EQ(model_spec_from_json(text), spec);
  EXPECT_EQ(to_json(model_spec_from_json(text)), text);
}

TEST(Spec, JsonIsTheSameTextForEver) {
  // Digests of checkpoints are over it.
  LayerSpec join =
      layer("other", {{"list", std::vector<std::int64_t>{1, 2}}, {"sub", SettingTable{{"x", 0.5}}}}, "j");
  join.from = {"input", "conv1"};
  const auto spec =
      model({1, 8, 8}, 4, {layer("conv2d", {{"kernel", whole(3)}, {"rate", 1.0}, {"bias", false}}), join});
  EXPECT_EQ(
      to_json(spec),
      R"({"name":"test","input":[1,8,8],"classes":4,"layers":[{"kind":"conv2d","name":"conv1","kernel":3,)"
      R"("rate":1.0,"bias":false},{"kind":"other","name":"j","from":["input","conv1"],"list":[1,2],)"
      R"("sub":{"x":0.5}}]})");
  EXPECT_EQ(model_spec_from_json(to_json(spec)), spec);
}

TEST(Spec, EveryLayerSaysWhatItReads) {
  const auto docs = layers().document({});
  ASSERT_EQ(docs.size(), layers().names().size());
  for (const auto& kind : docs) {
    EXPECT_FALSE(kind.text.empty()) << kind.name;
    for (const auto& setting : kind.settings)
      EXPECT_FALSE(setting.text.empty()) << kind.name << " " << setting.key;
  }
  EXPECT_EQ(docs[0].settings.size(), 8U);
  EXPECT_EQ(docs[0].settings[0].fallback, "required");
}

TEST(Spec, JsonOfAnotherShapeIsRefused) {
  for (const char* text : {"", "[]", "{}", "{\"name\":1,\"input\":[1],\"classes\":1,\"layers\":[]}",
                           "{\"name\":\"m\",\"input\":[1],\"classes\":1,\"layers\":{}}",
                           "{\"name\":\"m\",\"input\":[1],\"classes\":1,\"layers\":[{\"kind\":\"relu\"}]}",
                           "{\"name\":\"m\",\"input\":[1],\"classes\":1,\"layers\":[],\"more\":1}",
                           "{\"name\":\"m\",\"input\":[1],\"classes\":1,\"layers\":[{\"kind\":\"relu\","
                           "\"name\":\"r\",\"x\":null}]}"}) {
    EXPECT_THROW(model_spec_from_json(text), Error) << text;
  }
}

TEST(Spec, ShapesThroughTheExampleNetwork) {
  const auto shapes = check_model(digits_cnn());
  ASSERT_EQ(shapes.size(), 12U);
  EXPECT_EQ(shapes[2], (Shape{32, 13, 13}));
  EXPECT_EQ(shapes[6], (Shape{64, 3, 3}));
  EXPECT_EQ(shapes[8], Shape{576});
  EXPECT_EQ(state_layout(digits_cnn())->parameter_count(), 93322);
  EXPECT_EQ(head_of(digits_cnn()), "dense2");
}

TEST(Spec, UnknownWordsComeWithTheNearestKnownOne) {
  EXPECT_THAT(complaint(with_layer(layer("convd2"))),
              AllOf(HasSubstr("unknown layer 'convd2'"), HasSubstr("did you mean 'conv2d'?")));
  EXPECT_THAT(complaint(with_layer(layer("conv2d", {{"filter", whole(3)}, {"kernel", whole(3)}}))),
              AllOf(HasSubstr("layer 'conv1' (conv2d)"), HasSubstr("unknown key 'filter'"),
                    HasSubstr("did you mean 'filters'?")));
  EXPECT_THAT(complaint(with_layer(layer("relu", {{"slope", 0.1}}))),
              HasSubstr("unknown key 'slope' (there are no settings here)"));
  EXPECT_THAT(complaint(with_layer(layer("something_else_altogether"))), Not(HasSubstr("did you mean")));
}

TEST(Spec, MissingWrongAndOutOfRangeSettings) {
  EXPECT_THAT(complaint(with_layer(layer("conv2d", {{"filters", whole(3)}}))),
              AllOf(HasSubstr("layer 'conv1' (conv2d)"), HasSubstr("'kernel' is missing")));
  EXPECT_THAT(complaint(with_layer(layer("conv2d", {{"filters", whole(3)}, {"kernel", 3.0}}))),
              HasSubstr("kernel: expected an integer, got the number 3"));
  EXPECT_THAT(complaint(with_layer(conv2d(0, 3))),
              HasSubstr("filters: expected at least 1 and at most 1048576, got 0"));
  EXPECT_THAT(complaint(with_layer(layer("dropout", {{"rate", whole(1)}}))), HasSubstr("below 1"));
  EXPECT_THAT(complaint(with_layer(layer("dropout", {{"rate", std::string("half")}}))),
              HasSubstr("rate: expected a number, got the string \"half\""));
  EXPECT_THAT(complaint(with_layer(layer("dense", {{"units", whole(3)}, {"bias", whole(1)}}))),
              HasSubstr("true or false"));
  EXPECT_THAT(complaint(with_layer(layer("dense", {{"units", whole(3)}, {"init", std::string("hee")}}))),
              HasSubstr("did you mean 'he'?"));
  EXPECT_THAT(complaint(with_layer(pool("max_pool2d", 16, 16))),
              HasSubstr("kernel: expected at least 1 and at most 15, got 16"));
  EXPECT_THAT(complaint(with_layer(pool("max_pool2d", 3, 1, 2))),
              HasSubstr("padding: expected at most 1, half the kernel, got 2"));
  EXPECT_THAT(complaint(with_layer(layer("relu", {}, ""))), "");
  EXPECT_THAT(complaint(with_layer(
                  layer("conv2d", {{"filters", whole(3)}, {"kernel", whole(3)}, {"kernel", whole(3)}}))),
              HasSubstr("given twice"));
}

TEST(Spec, ShapesThatDoNotFitNameTheLayer) {
  EXPECT_THAT(complaint(model({1, 8, 8}, 10, {dense(10)})),
              AllOf(HasSubstr("model 'test': layer 'dense1' (dense)"), HasSubstr("a list of features"),
                    HasSubstr("got 1x8x8"), HasSubstr("flatten")));
  EXPECT_THAT(complaint(model({64}, 10, {conv2d(4, 3), layer("flatten"), dense(10)})),
              AllOf(HasSubstr("layer 'conv1'"), HasSubstr("channels x height x width"), HasSubstr("got 64")));
  EXPECT_THAT(complaint(model({1, 8, 2}, 10, {conv2d(4, 3), layer("flatten"), dense(10)})),
              AllOf(HasSubstr("larger than the image"), HasSubstr("got 8x2")));
  const auto grouped = layer("conv2d", {{"filters", whole(6)}, {"kernel", whole(3)}, {"groups", whole(3)}});
  EXPECT_THAT(complaint(model({4, 8, 8}, 10, {grouped, layer("flatten"), dense(10)})),
              AllOf(HasSubstr("layer 'conv1'"), HasSubstr("3 groups of 4 channels and 6 filters")));
  EXPECT_THAT(complaint(model({1, 8, 8}, 10, {layer("flatten"), dense(9)})),
              AllOf(HasSubstr("does not fit `classes`"), HasSubstr("expected 10, got 9")));
  EXPECT_THAT(complaint(model({1, 8, 8}, 10, {})), HasSubstr("no layers"));
  EXPECT_THAT(complaint(model({1, 1, 8, 8}, 10, {dense(10)})), HasSubstr("bad value of `input`"));
  EXPECT_THAT(complaint(model({0, 8, 8}, 10, {layer("flatten"), dense(10)})),
              HasSubstr("bad value of `input`"));
  EXPECT_THAT(complaint(model({4}, 0, {dense(10)})), HasSubstr("bad value of `classes`"));
  EXPECT_THAT(complaint(model({4}, 4, {layer("relu", {}, "a"), layer("relu", {}, "a")})),
              HasSubstr("two layers are called 'a'"));
  EXPECT_THAT(complaint(model({4}, 4, {layer("relu", {}, "a/b")})), HasSubstr("bad name of a layer"));
}

// A model whose last layer reads two dense layers, `a` and `b`.
ModelSpec joined(LayerSpec last, Shape input, LayerSpec a, LayerSpec b) {
  a.name = "a";
  b.name = "b";
  b.from = {"input"};
  last.from = {"a", "b"};
  return model(std::move(input), 10,
               {std::move(a), std::move(b), std::move(last), layer("flatten"), dense(10)});
}

TEST(Spec, InputsThatDoNotFitEachOther) {
  EXPECT_THAT(complaint(joined(layer("add"), {3, 8, 8}, conv2d(4, 3), conv2d(5, 3))),
              AllOf(HasSubstr("layer 'add1' (add)"), HasSubstr("expected 4x6x6"), HasSubstr("got 5x6x6"),
                    HasSubstr("conv2d with kernel 1")));
  EXPECT_THAT(complaint(model({8}, 8, {layer("add")})), AllOf(HasSubstr("two or more"), HasSubstr("from =")));
  EXPECT_EQ(complaint(joined(layer("concat"), {3, 8, 8}, conv2d(4, 3), conv2d(5, 3))), "");
  EXPECT_THAT(complaint(joined(layer("concat"), {3, 8, 8}, conv2d(4, 3), conv2d(4, 5))),
              AllOf(HasSubstr("layer 'concat1'"), HasSubstr("4x6x6"), HasSubstr("got 4x4x4")));
  EXPECT_THAT(complaint(joined(layer("concat"), {3, 8, 8}, conv2d(4, 3), layer("flatten"))),
              HasSubstr("got 192"));
  EXPECT_THAT(complaint(joined(layer("relu"), {8}, dense(4), dense(4))),
              AllOf(HasSubstr("reads one input"), HasSubstr("got 2 in `from`")));
  EXPECT_THAT(complaint(joined(attention(2), {5, 8}, dense(4), dense(6))),
              AllOf(HasSubstr("differ in their features"), HasSubstr("expected 4"), HasSubstr("got 5x6")));
}

TEST(Spec, NormsAttentionAndPoolsSayWhatTheyWant) {
  EXPECT_THAT(complaint(with_layer(layer("group_norm", {{"groups", whole(2)}}))),
              AllOf(HasSubstr("`groups` does not divide the channels"), HasSubstr("a divisor of 1")));
  EXPECT_THAT(complaint(with_layer(layer("group_norm"))), HasSubstr("'groups' is missing"));
  EXPECT_THAT(complaint(with_layer(layer("layer_norm"))), HasSubstr("got 1x8x8"));
  EXPECT_THAT(complaint(with_layer(attention(2))),
              AllOf(HasSubstr("steps x features"), HasSubstr("got 1x8x8")));
  EXPECT_THAT(complaint(model({5, 6}, 6, {attention(4)})),
              AllOf(HasSubstr("`heads` does not divide"), HasSubstr("a divisor of 6"), HasSubstr("got 4")));
  EXPECT_THAT(complaint(with_layer(layer("embedding", {{"vocabulary", whole(5)}, {"width", whole(4)}}))),
              HasSubstr("a list of indices"));
  EXPECT_THAT(complaint(with_layer(layer("global_avg_pool2d", {{"size", whole(5)}}))),
              HasSubstr("no settings"));
  EXPECT_THAT(complaint(with_layer(layer("adaptive_avg_pool2d"))), HasSubstr("'size' is missing"));
  EXPECT_THAT(complaint(with_layer(layer("leaky_relu", {{"negative_slope", -0.5}}))),
              HasSubstr("at least 0 and below 1"));
  EXPECT_THAT(
      complaint(model({4, 6}, 6, {layer("positional_encoding", {{"encoding", std::string("learnt")}})})),
      HasSubstr("expected sinusoidal, learned, got 'learnt' (did you mean 'learned'?)"));
}

TEST(Spec, SizesThatNoMachineHoldsAreRefusedBeforeAnythingIsMade) {
  EXPECT_THAT(complaint(model({1 << 20, 1 << 20, 1 << 20}, 10, {layer("flatten"), dense(10)})),
              HasSubstr("bad value of `input`"));
  EXPECT_THAT(complaint(model({1024, 64, 64}, 10, {conv2d(1 << 20, 1), layer("flatten"), dense(10)})),
              HasSubstr("the output is too large"));
  EXPECT_THAT(complaint(model({1 << 20}, 10, {dense(1 << 20), dense(10)})),
              HasSubstr("the weight is too large"));
}

}  // namespace
}  // namespace impart::nn::testing

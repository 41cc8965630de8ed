#include "impart/io/checkpoint.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "io/support.hpp"

namespace impart::io {
namespace {

using testing::HasSubstr;

void expect_equal(const StateDict& a, const StateDict& b) {
  ASSERT_EQ(a.layout().entries().size(), b.layout().entries().size());
  for (std::size_t i = 0; i < a.layout().entries().size(); ++i) {
    EXPECT_EQ(a.layout().entries()[i].name, b.layout().entries()[i].name);
    EXPECT_EQ(a.layout().entries()[i].shape, b.layout().entries()[i].shape);
    EXPECT_EQ(a.layout().entries()[i].kind, b.layout().entries()[i].kind);
  }
  EXPECT_TRUE(std::ranges::equal(std::as_bytes(a.arena()), std::as_bytes(b.arena())));
}

TEST(CheckpointReader, ReadsOneTensorAtATime) {
  const ScratchDirectory scratch;
  auto written = sample_checkpoint();
  write_checkpoint(scratch / "model.h5", written);
  const CheckpointReader reader(scratch / "model.h5");
  EXPECT_EQ(reader.summary().digest, written.digest);
  EXPECT_FALSE(reader.layout()->difference(written.state.layout()));
  for (const auto& entry : reader.layout()->entries()) {
    std::vector<float> values(static_cast<std::size_t>(entry.shape.elements()));
    reader.read(entry.name, values);
    EXPECT_TRUE(std::ranges::equal(values, written.state.values(entry.name))) << entry.name;
  }
  std::vector<float> values(3);
  EXPECT_THAT(error_of([&] { reader.read("conv9.weight", values); }),
              HasSubstr("conv9.weight: there is no such tensor"));
  EXPECT_THAT(error_of([&] { reader.read("conv1.bias", values); }), HasSubstr("expected 3, got 4"));
}

TEST(Checkpoint, RoundTripKeepsEverything) {
  const ScratchDirectory scratch;
  auto written = sample_checkpoint();
  write_checkpoint(scratch / "model.h5", written);
  const auto read = read_checkpoint(scratch / "model.h5");

  EXPECT_EQ(read.model.spec, written.model.spec);
  EXPECT_EQ(read.model.input_shape, (Shape{1, 28, 28}));
  EXPECT_EQ(read.model.classes, 10);
  expect_equal(read.state, written.state);
  ASSERT_TRUE(read.optimizer);
  EXPECT_EQ(read.optimizer->kind, "adam");
  ASSERT_EQ(read.optimizer->slots.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(read.optimizer->slots[i].first, written.optimizer->slots[i].first);
    expect_equal(read.optimizer->slots[i].second, written.optimizer->slots[i].second);
  }
  ASSERT_TRUE(read.progress);
  EXPECT_EQ(read.progress->stage, "teacher");
  EXPECT_EQ(read.progress->epoch, 3);
  EXPECT_EQ(read.progress->step, 420);
  EXPECT_EQ(read.progress->samples, 53760);
  EXPECT_EQ(read.progress->seed, 0xFFFFFFFFFFFFFFFEULL);
  EXPECT_EQ(read.progress->extra, written.progress->extra);
  EXPECT_EQ(read.lineage.stage, written.lineage.stage);
  EXPECT_EQ(read.lineage.ranks, 2);
  EXPECT_EQ(read.lineage.mesh, "data=2");
  EXPECT_EQ(read.lineage.isa, "avx2");
  EXPECT_EQ(read.lineage.kernels, "onednn 2.6.3");
  ASSERT_EQ(read.lineage.parents.size(), 2U);
  EXPECT_EQ(read.lineage.parents[1].digest, std::string(64, 'b'));
  EXPECT_EQ(read.lineage.parents[1].path, "../größer/model.h5");
  EXPECT_EQ(read.lineage.parents[1].role, "member");
  EXPECT_EQ(read.lineage.parents[1].weight, 0.25);
  ASSERT_EQ(read.lineage.data.size(), 1U);
  EXPECT_EQ(read.lineage.data[0].name, "mnist.train");
  EXPECT_EQ(read.lineage.data[0].samples, 8000);
  ASSERT_EQ(read.metrics.size(), 2U);
  ASSERT_EQ(read.metrics.at("validation.accuracy").size(), 2U);
  EXPECT_EQ(read.metrics.at("validation.accuracy")[1].step, 200);
  EXPECT_EQ(read.metrics.at("validation.accuracy")[1].value, 0.75);
  EXPECT_TRUE(read.metrics.at("train.loss").empty());
  EXPECT_EQ(read.created, written.created);
  EXPECT_EQ(read.digest, written.digest);
  EXPECT_EQ(read.digest.size(), 64U);
  EXPECT_EQ(scratch.entries(), 1U) << "a temporary file was left";
}

TEST(Checkpoint, WhatIsAbsentStaysAbsent) {
  const ScratchDirectory scratch;
  Checkpoint written;
  written.state = sample_state();
  write_checkpoint(scratch / "model.h5", written);
  const auto read = read_checkpoint(scratch / "model.h5");
  EXPECT_EQ(read.model.spec, "");
  EXPECT_EQ(read.model.input_shape, Shape{});
  EXPECT_FALSE(read.optimizer);
  EXPECT_FALSE(read.progress);
  EXPECT_TRUE(read.lineage.parents.empty());
  EXPECT_TRUE(read.metrics.empty());
}

TEST(Checkpoint, KeepsBitsOfUnusualValues) {
  const ScratchDirectory scratch;
  Checkpoint written;
  written.state = sample_state();
  const auto values = written.state.values("conv1.bias");
  values[0] = -0.0F;
  values[1] = std::numeric_limits<float>::quiet_NaN();
  values[2] = std::numeric_limits<float>::denorm_min();
  values[3] = -std::numeric_limits<float>::infinity();
  write_checkpoint(scratch / "model.h5", written);
  expect_equal(read_checkpoint(scratch / "model.h5").state, written.state);
}

TEST(Checkpoint, LongTextsFit) {
  const ScratchDirectory scratch;
  for (const std::size_t length : {59'999UL, 60'000UL, 60'001UL, 200'000UL}) {
    auto written = sample_checkpoint();
    written.model.spec = "{\"" + std::string(length - 4, 'x') + "\"}";
    written.lineage.stage = std::string(length, 's');
    write_checkpoint(scratch / "model.h5", written);
    const auto read = read_checkpoint(scratch / "model.h5");
    EXPECT_EQ(read.model.spec, written.model.spec);
    EXPECT_EQ(read.lineage.stage, written.lineage.stage);
  }
}

TEST(Checkpoint, ManyTensorsKeepTheirOrder) {
  const ScratchDirectory scratch;
  std::vector<StateEntry> entries;
  for (int i = 0; i < 500; ++i) {
    entries.push_back({"layer" + std::to_string(997 * i % 500) + ".weight", Shape{3},
                       i % 3 == 0 ? StateKind::kBuffer : StateKind::kParameter, 0});
  }
  Checkpoint written;
  written.state = StateDict(std::make_shared<const StateLayout>(entries));
  write_checkpoint(scratch / "model.h5", written);
  expect_equal(read_checkpoint(scratch / "model.h5").state, written.state);
}

TEST(Checkpoint, EmptyTensorsAndNoTensorsAreFine) {
  const ScratchDirectory scratch;
  Checkpoint none;
  write_checkpoint(scratch / "none.h5", none);
  EXPECT_TRUE(read_checkpoint(scratch / "none.h5").state.layout().entries().empty());

  Checkpoint empty;
  empty.state = StateDict(std::make_shared<const StateLayout>(
      std::vector<StateEntry>{{"nothing", Shape{0, 5}, StateKind::kParameter, 0}}));
  write_checkpoint(scratch / "empty.h5", empty);
  expect_equal(read_checkpoint(scratch / "empty.h5").state, empty.state);
}

TEST(Checkpoint, RootDigestCoversTheModelAlone) {
  const ScratchDirectory scratch;
  auto full = sample_checkpoint();
  Checkpoint bare;
  bare.model = full.model;
  bare.state = full.state.clone();
  write_checkpoint(scratch / "full.h5", full);
  write_checkpoint(scratch / "bare.h5", bare);
  EXPECT_EQ(full.digest, bare.digest);
  EXPECT_EQ(full.digest, root_digest(full.model, full.state));

  bare.state.values("conv1.bias")[2] = std::nextafter(bare.state.values("conv1.bias")[2], 100.0F);
  EXPECT_NE(root_digest(bare.model, bare.state), full.digest) << "one bit of a parameter";
  bare.state = full.state.clone();
  bare.state.values("bn1.count")[0] += 1;
  EXPECT_NE(root_digest(bare.model, bare.state), full.digest) << "a buffer";
  bare.state = full.state.clone();
  bare.model.classes = 11;
  EXPECT_NE(root_digest(bare.model, bare.state), full.digest) << "classes";
  bare.model = full.model;
  bare.model.spec += ' ';
  EXPECT_NE(root_digest(bare.model, bare.state), full.digest) << "spec";
}

TEST(Checkpoint, SummarySaysAllButTheValues) {
  const ScratchDirectory scratch;
  auto written = sample_checkpoint();
  write_checkpoint(scratch / "model.h5", written);
  const auto summary = read_summary(scratch / "model.h5");
  EXPECT_EQ(summary.digest, written.digest);
  EXPECT_EQ(summary.created, written.created);
  EXPECT_FALSE(summary.writer.empty());
  EXPECT_EQ(summary.parameter_count(), 36 + 4 + 40);
  ASSERT_EQ(summary.tensors.size(), 5U);
  EXPECT_EQ(summary.tensors[3].name, "bn1.count");
  EXPECT_EQ(summary.tensors[3].kind, StateKind::kBuffer);
  ASSERT_TRUE(summary.optimizer);
  EXPECT_EQ(summary.optimizer->slots[0].first, "exp_avg_sq");
  EXPECT_EQ(summary.lineage.parents.size(), 2U);
}

TEST(Checkpoint, RefusesNamesThatHdf5WouldSplit) {
  const ScratchDirectory scratch;
  for (const std::string name : {"a/b", "", ".", "/x"}) {
    Checkpoint checkpoint;
    checkpoint.state = StateDict(std::make_shared<const StateLayout>(
        std::vector<StateEntry>{{name, Shape{1}, StateKind::kParameter, 0}}));
    EXPECT_THAT(error_of([&] { write_checkpoint(scratch / "model.h5", checkpoint); }),
                HasSubstr("cannot have this name"));
    EXPECT_EQ(scratch.entries(), 0U);
  }
}

}  // namespace
}  // namespace impart::io

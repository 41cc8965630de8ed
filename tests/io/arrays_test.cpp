#include "impart/io/arrays.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <array>
#include <vector>

#include "io/support.hpp"

namespace impart::io {
namespace {

TEST(Arrays, AreWhatOtherProgramsRead) {
  const ScratchDirectory scratch;
  const auto path = scratch / "out.h5";
  const std::vector<float> probabilities{0.25F, 0.75F, 1.0F, 0.0F, 0.5F, 0.5F};
  const std::vector<std::int32_t> classes{1, 0, -7};
  const std::vector<NamedArray> arrays{{"probabilities", Shape{3, 2}, std::span(probabilities)},
                                       {"class", Shape{3}, std::span(classes)}};
  write_arrays(path, arrays);
  write_arrays(path, arrays);  // in place of the older one
  EXPECT_EQ(scratch.entries(), 1U);

  const auto file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  ASSERT_GE(file, 0);
  const auto floats = H5Dopen2(file, "probabilities", H5P_DEFAULT);
  const auto space = H5Dget_space(floats);
  std::array<hsize_t, 2> dims{};
  EXPECT_EQ(H5Sget_simple_extent_dims(space, dims.data(), nullptr), 2);
  EXPECT_THAT(dims, ::testing::ElementsAre(3, 2));
  std::vector<float> read_floats(6);
  H5Dread(floats, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, read_floats.data());
  EXPECT_EQ(read_floats, probabilities);
  const auto integers = H5Dopen2(file, "class", H5P_DEFAULT);
  std::vector<std::int32_t> read_integers(3);
  H5Dread(integers, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, read_integers.data());
  EXPECT_EQ(read_integers, classes);
  H5Dclose(integers);
  H5Sclose(space);
  H5Dclose(floats);
  H5Fclose(file);
}

TEST(Arrays, WhatCannotBeWrittenSaysWhere) {
  const ScratchDirectory scratch;
  const std::vector<float> values(5);
  const std::vector<NamedArray> arrays{{"p", Shape{3, 2}, std::span(values)}};
  EXPECT_THAT(
      error_of([&] { write_arrays(scratch / "out.h5", arrays); }),
      ::testing::HasSubstr("out.h5: p: the array has other values than its shape says: expected 3x2, got 5"));
  EXPECT_THAT(error_of([&] { write_arrays(scratch / "none/out.h5", {}); }),
              ::testing::HasSubstr("none/out.h5: cannot be written: got No such file or directory"));
  EXPECT_EQ(scratch.entries(), 0U);
}

}  // namespace
}  // namespace impart::io

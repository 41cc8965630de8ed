#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <cmath>

#include "io/samples_support.hpp"

namespace impart::io {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class Hdf5 : public testing::Test {
 protected:
  void SetUp() override {
    file_ = H5Fcreate(path_.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    ASSERT_GE(file_, 0);
    H5Gclose(H5Gcreate2(file_, "train", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  }

  void add(const char* name, hid_t type, std::vector<hsize_t> dims, hid_t memory_type, const void* values,
           bool packed = false) const {
    const hid_t space = H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr);
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    if (packed) {
      H5Pset_chunk(creation, static_cast<int>(dims.size()), dims.data());
      H5Pset_deflate(creation, 9);
    }
    const hid_t dataset = H5Dcreate2(file_, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    ASSERT_GE(dataset, 0);
    if (values != nullptr) {
      ASSERT_GE(H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), 0);
    }
    H5Dclose(dataset);
    H5Pclose(creation);
    H5Sclose(space);
  }

  void add_floats(const std::vector<float>& values, std::vector<hsize_t> dims) const {
    add("/train/data", H5T_IEEE_F64BE, std::move(dims), H5T_NATIVE_FLOAT, values.data());
  }
  void add_labels(const std::vector<int>& values) const {
    add("/train/target", H5T_STD_I16BE, {values.size()}, H5T_NATIVE_INT, values.data());
  }

  [[nodiscard]] Samples read(const Shape& shape = {}, const std::string& samples = "train/data",
                             const std::string& labels = "/train/target") {
    if (file_ >= 0) H5Fclose(std::exchange(file_, -1));
    return read_all(*open_hdf5(path_, samples, labels, shape));
  }
  [[nodiscard]] std::string error(const Shape& shape = {}, const std::string& samples = "train/data",
                                  const std::string& labels = "/train/target") {
    return error_of([&] { static_cast<void>(read(shape, samples, labels)); });
  }

  ScratchDirectory scratch_;
  std::filesystem::path path_ = scratch_ / "data.h5";
  hid_t file_ = -1;
};

TEST_F(Hdf5, AnyNumberTypeBecomesFloat) {
  add_floats({1, 2, 3, 4, 5, 6}, {2, 3});
  add_labels({4, 0});
  const auto samples = read();
  EXPECT_EQ(samples.info.samples, 2);
  EXPECT_EQ(samples.info.shape, Shape{3});
  EXPECT_EQ(samples.info.element, ElementType::kFloat32);
  EXPECT_EQ(samples.number(4), 5);
  EXPECT_THAT(samples.labels, ElementsAre(4, 0));
}

TEST_F(Hdf5, IntegersBecomeFloat) {
  const std::vector<int> values{-1, 2, 300, 4};
  add("/train/data", H5T_STD_I32LE, {2, 2}, H5T_NATIVE_INT, values.data(), true);
  add_labels({1, 2});
  const auto samples = read();
  EXPECT_EQ(samples.number(0), -1);
  EXPECT_EQ(samples.number(2), 300);
}

TEST_F(Hdf5, UnsignedBytesStayBytes) {
  const std::vector<std::uint8_t> values{0, 1, 128, 255, 5, 6, 7, 8};
  add("/train/data", H5T_STD_U8LE, {2, 2, 2}, H5T_NATIVE_UINT8, values.data(), true);
  add_labels({1, 2});
  const auto samples = read(Shape{1, 2, 2});
  EXPECT_EQ(samples.info.element, ElementType::kUint8);
  EXPECT_EQ(samples.info.shape, (Shape{1, 2, 2}));
  EXPECT_EQ(samples.byte(3), 255);
}

TEST_F(Hdf5, WithoutLabels) {
  add_floats({1, 2, 3, 4}, {2, 2});
  const auto samples = read({}, "train/data", "");
  EXPECT_EQ(samples.info.samples, 2);
  EXPECT_EQ(samples.number(3), 4);
  EXPECT_TRUE(samples.labels.empty());
}

TEST_F(Hdf5, MissingPaths) {
  add_floats({1, 2}, {1, 2});
  add_labels({0});
  EXPECT_THAT(error({}, "train/none"),
              AllOf(HasSubstr("data.h5"), HasSubstr("/train/none"), HasSubstr("missing")));
  EXPECT_THAT(error({}, "no/such/path"), HasSubstr("missing"));
  EXPECT_THAT(error({}, "train/data/below"), HasSubstr("missing"));
  EXPECT_THAT(error({}, "train"), HasSubstr("cannot open the dataset"));
  EXPECT_THAT(error({}, ""), HasSubstr("data.h5"));
  EXPECT_THAT(error({}, "train/data", "/labels"), AllOf(HasSubstr("/labels"), HasSubstr("missing")));
  EXPECT_THAT(error_of([&] { open_hdf5(scratch_ / "none.h5", "a", "b"); }), HasSubstr("No such file"));
  write_bytes(scratch_ / "text.h5", "text");
  EXPECT_THAT(error_of([&] { open_hdf5(scratch_ / "text.h5", "a", "b"); }), HasSubstr("cannot open as HDF5"));
}

TEST_F(Hdf5, WrongRanksAndCounts) {
  add_floats({1, 2, 3, 4}, {4});
  add_labels({0, 1, 2, 3});
  const std::vector<float> values{1, 2, 3, 4, 5, 6};
  add("/train/rows", H5T_IEEE_F32LE, {3, 2}, H5T_NATIVE_FLOAT, values.data());
  const std::vector<int> columns{0, 1, 2};
  add("/train/columns", H5T_STD_I32LE, {3, 1}, H5T_NATIVE_INT, columns.data());
  add("/train/empty", H5T_IEEE_F32LE, {0, 2}, H5T_NATIVE_FLOAT, nullptr);
  EXPECT_THAT(error(), AllOf(HasSubstr("two or more extents"), HasSubstr("got 4")));
  EXPECT_THAT(error({}, "train/empty"), HasSubstr("hold something"));
  EXPECT_THAT(error({}, "train/rows"), AllOf(HasSubstr("one label for each sample"), HasSubstr("got 4")));
  EXPECT_THAT(error({}, "train/rows", "train/columns"), HasSubstr("got 3x1"));
  EXPECT_THAT(error(Shape{1, 3}, "train/rows"), AllOf(HasSubstr("expected 1x3"), HasSubstr("got 2")));
  EXPECT_THAT(error(Shape{-1, -2}, "train/rows"), HasSubstr("cannot have this shape"));
}

TEST_F(Hdf5, WrongTypes) {
  add_floats({1, 2}, {2, 1});
  const std::vector<float> labels{0, 1};
  add("/train/target", H5T_IEEE_F32LE, {2}, H5T_NATIVE_FLOAT, labels.data());
  const hid_t text = H5Tcopy(H5T_C_S1);
  add("/train/text", text, {2, 1}, text, "ab");
  H5Tclose(text);
  EXPECT_THAT(error(), AllOf(HasSubstr("/train/target"), HasSubstr("integer")));
  EXPECT_THAT(error({}, "train/text"), HasSubstr("must be numbers"));
}

TEST_F(Hdf5, LabelsThatAreNoLabels) {
  add_floats({1, 2}, {2, 1});
  const std::vector<long long> values{5'000'000'000, 1};
  add("/train/large", H5T_STD_I64LE, {2}, H5T_NATIVE_LLONG, values.data());
  add_labels({3, -1});
  EXPECT_THAT(error(), AllOf(HasSubstr("whole number"), HasSubstr("-1 at sample 1")));
  EXPECT_THAT(error({}, "train/data", "train/large"), HasSubstr("at sample 0"));
}

TEST_F(Hdf5, ValuesThatAreNotFinite) {
  add_floats({1, 2, 3, std::nanf("")}, {2, 2});
  add_labels({0, 1});
  const std::vector<double> large{1e300, 0};
  add("/train/large", H5T_IEEE_F64LE, {2, 1}, H5T_NATIVE_DOUBLE, large.data());
  EXPECT_THAT(error(), AllOf(HasSubstr("no finite number"), HasSubstr("sample 1")));
  EXPECT_THAT(error({}, "train/large"), HasSubstr("inf in sample 0"));
}

// Claimed, never written: opening must refuse what the file cannot hold.
TEST_F(Hdf5, HugeClaims) {
  add("/train/data", H5T_IEEE_F32LE, {hsize_t{1} << 40, 784}, H5T_NATIVE_FLOAT, nullptr);
  add_labels({0, 1});
  EXPECT_THAT(error(), AllOf(HasSubstr("/train/data"), HasSubstr("claims more values than the file holds")));
}

TEST(SharedData, UspsAsHdf5) {
  IMPART_NEEDS_DATA("usps");
  const auto samples =
      read_all(*open_hdf5(shared_data("usps/usps.h5"), "/test/data", "/test/target", Shape{1, 16, 16}));
  EXPECT_EQ(samples.info.samples, 2007);
  EXPECT_EQ(samples.labels.front(), 9);
  for (const auto label : samples.labels) ASSERT_LE(label, 9);
  for (std::size_t i = 0; i < 2007 * 256; ++i) {
    ASSERT_GE(samples.number(i), 0);
    ASSERT_LE(samples.number(i), 1);
  }
}

}  // namespace
}  // namespace impart::io

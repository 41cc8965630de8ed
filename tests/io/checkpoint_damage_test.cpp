#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <limits>

#include "impart/io/checkpoint.hpp"
#include "io/support.hpp"

// HDF5 1.10 loses a little memory of its own when it meets damaged metadata. Read by the address sanitizer.
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5"; }

namespace impart::io {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class DamagedCheckpoint : public testing::Test {
 protected:
  void SetUp() override {
    auto checkpoint = sample_checkpoint();
    write_checkpoint(path_, checkpoint);
  }

  // Opens the good file for writing and lets `change` do its harm.
  template <class Change>
  void damage(const Change& change) const {
    const hid_t file = H5Fopen(path_.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    ASSERT_GE(file, 0);
    change(file);
    ASSERT_GE(H5Fclose(file), 0);
  }

  // Replaces a dataset by one of other type and extents; chunked when it claims more than could be stored.
  static void replace(hid_t file, const char* name, hid_t type, std::vector<hsize_t> dims) {
    ASSERT_GE(H5Ldelete(file, name, H5P_DEFAULT), 0);
    const int rank = static_cast<int>(dims.size());
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    const std::vector<hsize_t> chunk(dims.size(), 4);
    if (rank > 1) {
      H5Pset_chunk(creation, rank, chunk.data());
    } else if (dims[0] < 100) {
      H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY);
    }
    const hid_t space = H5Screate_simple(rank, dims.data(), nullptr);
    const hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    ASSERT_GE(dataset, 0);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Pclose(creation);
  }

  [[nodiscard]] std::string read_error() const {
    return error_of([&] { static_cast<void>(read_checkpoint(path_)); });
  }

  ScratchDirectory scratch_;
  std::filesystem::path path_ = scratch_ / "model.h5";
};

TEST_F(DamagedCheckpoint, MissingFileAndOtherFiles) {
  EXPECT_THAT(error_of([&] { static_cast<void>(read_checkpoint(scratch_ / "none.h5")); }),
              AllOf(HasSubstr("none.h5"), HasSubstr("No such file")));
  EXPECT_THAT(error_of([&] { static_cast<void>(read_checkpoint(scratch_.path())); }), HasSubstr("directory"));
  write_bytes(scratch_ / "text.h5", "no HDF5 at all\n");
  EXPECT_THAT(error_of([&] { static_cast<void>(read_checkpoint(scratch_ / "text.h5")); }),
              AllOf(HasSubstr("text.h5"), HasSubstr("file signature not found")));
  write_bytes(scratch_ / "empty.h5", "");
  EXPECT_NE(error_of([&] { static_cast<void>(read_checkpoint(scratch_ / "empty.h5")); }), "");
}

TEST_F(DamagedCheckpoint, TruncationAnywhereIsAnError) {
  const auto bytes = read_bytes(path_);
  for (std::size_t length = 0; length < bytes.size();
       length += length < 256 || bytes.size() - length < 64 ? 1 : 97) {
    write_bytes(path_, bytes.substr(0, length));
    EXPECT_THAT(read_error(), HasSubstr("model.h5")) << "cut to " << length << " of " << bytes.size();
  }
}

// Bytes that mean nothing (gaps between objects) may change; all that is read must be what was written.
TEST_F(DamagedCheckpoint, OneFlippedByteIsNoticedOrWithoutEffect) {
  const auto bytes = read_bytes(path_);
  std::size_t noticed = 0;
  std::size_t tried = 0;
  for (std::size_t at = 0; at < bytes.size(); at += 13, ++tried) {
    auto damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << at % 8));
    write_bytes(path_, damaged);
    const auto error = read_error();
    if (!error.empty()) {
      ++noticed;
      EXPECT_THAT(error, HasSubstr("model.h5"));
      continue;
    }
    const auto read = read_checkpoint(path_);
    const auto good = sample_checkpoint();
    EXPECT_EQ(read.digest, root_digest(good.model, good.state)) << "byte " << at;
    EXPECT_EQ(read.metrics.at("validation.accuracy")[1].value, 0.75) << "byte " << at;
    EXPECT_EQ(read.lineage.parents[1].path, good.lineage.parents[1].path) << "byte " << at;
  }
  EXPECT_GT(noticed, tried / 3);
}

TEST_F(DamagedCheckpoint, FlippedValueNamesTheTensor) {
  damage([](hid_t file) {
    const hid_t dataset = H5Dopen2(file, "/parameters/fc.weight", H5P_DEFAULT);
    float values[40];
    H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    values[7] += 1;
    H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(dataset);
  });
  EXPECT_THAT(read_error(), HasSubstr("/parameters/fc.weight: the values do not match their digest"));
  const auto findings = verify_checkpoint(path_);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].object, "/parameters/fc.weight");

  const CheckpointReader reader(path_);
  std::vector<float> bias(4);
  reader.read("conv1.bias", bias);
  std::vector<float> weight(40);
  EXPECT_THAT(
      error_of([&] { reader.read("fc.weight", weight); }),
      AllOf(HasSubstr("model.h5"), HasSubstr("/parameters/fc.weight: the values do not match their digest")));
}

TEST_F(DamagedCheckpoint, VerifyOfAGoodFileFindsNothing) { EXPECT_TRUE(verify_checkpoint(path_).empty()); }

TEST_F(DamagedCheckpoint, ChangedOptimizerAndMetricsAreNoticed) {
  damage([](hid_t file) {
    const hid_t dataset = H5Dopen2(file, "/optimizer/exp_avg/conv1.bias", H5P_DEFAULT);
    const float values[4] = {};
    H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(dataset);
  });
  EXPECT_THAT(read_error(), HasSubstr("/optimizer/exp_avg/conv1.bias"));

  SetUp();
  damage([](hid_t file) { H5Ldelete(file, "/metrics/train.loss", H5P_DEFAULT); });
  EXPECT_THAT(read_error(), HasSubstr("file digest"));
  EXPECT_THAT(error_of([&] { static_cast<void>(CheckpointReader(path_)); }), HasSubstr("file digest"));
}

TEST_F(DamagedCheckpoint, OtherFormatsAndVersionsAreRefused) {
  damage([](hid_t file) {
    const std::int64_t version = 2;
    const hid_t attribute = H5Aopen(file, "version", H5P_DEFAULT);
    H5Awrite(attribute, H5T_NATIVE_INT64, &version);
    H5Aclose(attribute);
  });
  EXPECT_THAT(read_error(), AllOf(HasSubstr("expected version 1"), HasSubstr("got version 2")));
  damage([](hid_t file) { H5Adelete(file, "format"); });
  EXPECT_THAT(read_error(), HasSubstr("no checkpoint"));
}

TEST_F(DamagedCheckpoint, MissingPartsAreNamed) {
  for (const char* part : {"/model", "/parameters", "/buffers", "/lineage", "/lineage/parents", "/metrics",
                           "/parameters/conv1.bias", "/optimizer/exp_avg/conv1.bias", "/progress/extra"}) {
    SetUp();
    damage([&](hid_t file) { ASSERT_GE(H5Ldelete(file, part, H5P_DEFAULT), 0); });
    EXPECT_THAT(read_error(), HasSubstr("missing")) << part;
  }
  for (const char* attribute : {"digest", "kind", "order"}) {
    SetUp();
    damage([&](hid_t file) { H5Adelete_by_name(file, "/parameters/conv1.bias", attribute, H5P_DEFAULT); });
    EXPECT_THAT(read_error(), AllOf(HasSubstr("conv1.bias@"), HasSubstr("missing"))) << attribute;
  }
}

TEST_F(DamagedCheckpoint, WrongTypesAndRanksAreNamed) {
  damage([](hid_t file) { replace(file, "/parameters/conv1.bias", H5T_IEEE_F64LE, {4}); });
  EXPECT_THAT(read_error(), AllOf(HasSubstr("/parameters/conv1.bias"), HasSubstr("float32")));
  SetUp();
  damage([](hid_t file) { replace(file, "/lineage/parents", H5T_IEEE_F32LE, {4}); });
  EXPECT_THAT(read_error(), AllOf(HasSubstr("/lineage/parents"), HasSubstr("records")));
  SetUp();
  damage([](hid_t file) {
    H5Ldelete(file, "/parameters/conv1.bias", H5P_DEFAULT);
    H5Gclose(H5Gcreate2(file, "/parameters/conv1.bias", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  });
  EXPECT_THAT(read_error(), HasSubstr("/parameters/conv1.bias"));
  SetUp();
  damage([](hid_t file) {
    H5Adelete_by_name(file, "/model", "classes", H5P_DEFAULT);
    const hid_t space = H5Screate(H5S_SCALAR);
    H5Aclose(H5Acreate_by_name(file, "/model", "classes", H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT,
                               H5P_DEFAULT));
    H5Sclose(space);
  });
  EXPECT_THAT(read_error(), AllOf(HasSubstr("/model@classes"), HasSubstr("type")));
}

// The claim is refused before memory is asked for: these would need more than any machine has.
TEST_F(DamagedCheckpoint, HugeClaimsAreRefused) {
  const auto huge = hsize_t{1} << 40;
  damage([&](hid_t file) { replace(file, "/parameters/conv1.bias", H5T_IEEE_F32LE, {huge}); });
  EXPECT_THAT(read_error(),
              AllOf(HasSubstr("conv1.bias"), HasSubstr("claims more values than the file holds")));
  SetUp();
  damage([&](hid_t file) { replace(file, "/parameters/conv1.bias", H5T_IEEE_F32LE, {huge, huge, 16}); });
  EXPECT_THAT(read_error(), HasSubstr("claims more values than the file holds"));
}

}  // namespace
}  // namespace impart::io

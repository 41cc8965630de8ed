// HDF5's C API with owners and checks: every call either succeeds or throws an Error that says why.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "impart/core/tensor.hpp"

namespace impart::io::h5 {

/// Owns one HDF5 identifier. Move-only; the destructor logs a failure and never throws.
class Handle {
 public:
  using Closer = herr_t (*)(hid_t);

  Handle() = default;
  Handle(hid_t id, Closer closer) : id_(id), closer_(closer) {}
  Handle(Handle&& other) noexcept
      : id_(std::exchange(other.id_, H5I_INVALID_HID)), closer_(std::exchange(other.closer_, nullptr)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(closer_, other.closer_);
    return *this;
  }
  ~Handle();

  [[nodiscard]] hid_t id() const noexcept { return id_; }
  /// Closes now, and throws when that fails: for written datasets, whose last bytes leave the
  /// library's buffers here.
  void close();

 private:
  hid_t id_ = H5I_INVALID_HID;
  Closer closer_ = nullptr;
};

/// A file in memory, which will have about `expected_bytes`. HDF5 1.10 cannot be trusted with a disk that may
/// be full: when closing fails it keeps what it has freed, and crashes at exit. So it never writes to one.
/// Metadata is in the checksummed form of HDF5 1.8, so that a damaged file is noticed before it is believed.
Handle create_in_memory(std::size_t expected_bytes);
/// The bytes of such a file, complete and ready to be written to disk. They live until the file is changed or
/// closed.
std::span<const std::byte> image_of(const Handle& file);
Handle open_file(const std::filesystem::path& path);  ///< for reading

Handle create_group(const Handle& parent, const std::string& name);
Handle open_group(const Handle& parent, const std::string& name);
Handle open_dataset(const Handle& parent, const std::string& name);
/// Whether a group or dataset of that name, which may be a path of several parts, can be reached.
bool exists(const Handle& parent, const std::string& name);
std::vector<std::string> children(const Handle& group);     ///< names, in alphabetical order
std::vector<std::string> attributes(const Handle& object);  ///< names, in alphabetical order
std::string name_of(const Handle& object);                  ///< "/parameters/conv1.weight"

/// How a dataset is stored. `shape` holds no extent and no product that overflows.
struct DatasetInfo {
  Shape shape;
  std::size_t element_size = 0;  ///< bytes, in the file
  H5T_class_t type = H5T_NO_CLASS;
};
/// Reads the header of a dataset, and refuses one that claims more values than `file_size` bytes can hold, so
/// that the caller can allocate what it says.
DatasetInfo describe(const Handle& dataset, std::uintmax_t file_size);
/// Whether the values are of this type exactly: H5T_IEEE_F32LE.
bool has_type(const Handle& dataset, hid_t type);

/// A dataset of little-endian values.
Handle write_array(const Handle& parent, const std::string& name, const Shape& shape,
                   std::span<const float> values);
Handle write_array(const Handle& parent, const std::string& name, const Shape& shape,
                   std::span<const std::int32_t> values);
/// All values, converted to the memory type. REQUIRES: `values` is large enough.
void read_values(const Handle& dataset, hid_t memory_type, void* values);

/// Text is a UTF-8 attribute of fixed length; what is too long for one becomes a dataset of that name.
void write_text(const Handle& object, const std::string& name, std::string_view text);
std::string read_text(const Handle& object, const std::string& name);
void write_integer(const Handle& object, const std::string& name, std::int64_t value);
std::int64_t read_integer(const Handle& object, const std::string& name);
void write_unsigned(const Handle& object, const std::string& name, std::uint64_t value);
std::uint64_t read_unsigned(const Handle& object, const std::string& name);
void write_real(const Handle& object, const std::string& name, double value);
double read_real(const Handle& object, const std::string& name);
void write_shape(const Handle& object, const std::string& name, const Shape& shape);
Shape read_shape(const Handle& object, const std::string& name);

/// A dataset of records, given by columns of equal length.
class TableWriter {
 public:
  TableWriter& column(std::string name, std::vector<std::string> values);
  TableWriter& column(std::string name, std::vector<std::int64_t> values);
  TableWriter& column(std::string name, std::vector<double> values);
  void write(const Handle& parent, const std::string& name) const;

 private:
  struct Column {
    std::string name;
    Handle type;
    std::vector<std::string> cells;  // the bytes of each value, all of one length
  };
  TableWriter& add(std::string name, Handle type, std::vector<std::string> cells);

  std::vector<Column> columns_;
  std::size_t rows_ = 0;
};

/// Columns of a dataset of records, by name.
class TableReader {
 public:
  TableReader(const Handle& parent, const std::string& name, std::uintmax_t file_size);

  [[nodiscard]] std::size_t rows() const noexcept { return rows_; }
  [[nodiscard]] std::vector<std::string> texts(const std::string& column) const;
  [[nodiscard]] std::vector<std::int64_t> integers(const std::string& column) const;
  [[nodiscard]] std::vector<double> reals(const std::string& column) const;

 private:
  [[nodiscard]] Handle member(const std::string& column, H5T_class_t expected) const;
  void read(const std::string& column, const Handle& type, std::size_t size, void* values) const;

  Handle dataset_;
  Handle type_;
  std::size_t rows_ = 0;
};

}  // namespace impart::io::h5

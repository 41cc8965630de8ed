#include "io/hdf5.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <limits>
#include <new>

#include "impart/core/error.hpp"
#include "impart/core/log.hpp"

namespace impart::io::h5 {

namespace {

// An attribute lives in an object header message, which ends at 64 KiB; the rest of it needs some room too.
constexpr std::size_t kMaxAttributeText = 60000;
// No stream of deflate, the filter that all HDF5 files may use, expands to more than this for each byte.
constexpr std::uintmax_t kMaxExpansion = 1032;

// The library keeps an error stack, and prints it, for each thread.
void be_silent() {
  thread_local const bool silent = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  static_cast<void>(silent);
}

herr_t collect(unsigned, const H5E_error2_t* error, void* texts) {
  if (error->desc != nullptr) static_cast<std::vector<std::string>*>(texts)->emplace_back(error->desc);
  return 0;
}

// The library's loops call this for each link or attribute. Asking for names by index instead would sort all
// of a large group again for each.
template <class Info>
herr_t collect_name(hid_t, const char* name, const Info*, void* names) {
  try {
    static_cast<std::vector<std::string>*>(names)->emplace_back(name);
    return 0;
  } catch (const std::bad_alloc&) {
    return -1;  // nothing may be thrown through C
  }
}

// What the system said when there is such a line, as "No space left on device"; else the innermost complaint
// and the outermost one.
std::string stack_text() {
  std::vector<std::string> texts;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, collect, &texts);
  H5Eclear2(H5E_DEFAULT);
  static constexpr std::string_view mark = "error message = '";
  for (const auto& text : texts) {
    const auto begin = text.find(mark);
    if (begin == std::string::npos) continue;
    const auto first = begin + mark.size();
    return text.substr(first, text.find('\'', first) - first);
  }
  if (texts.empty()) return "HDF5 gives no reason";
  return texts.front() == texts.back() ? "HDF5: " + texts.front()
                                       : "HDF5: " + texts.front() + "; " + texts.back();
}

// Runs one call of the library; `what` is a verb phrase: "cannot open the dataset".
template <class Call>
auto checked(const char* what, const Call& call) {
  be_silent();
  const auto result = call();
  if (result < 0) throw Error(what).got(stack_text());
  return result;
}

template <class Call>
auto checked(const char* what, const std::string& where, const Call& call) {
  try {
    return checked(what, call);
  } catch (Error& error) {
    error.at(where);
    throw;
  }
}

std::string child_path(const Handle& parent, const std::string& name) {
  const auto base = name_of(parent);
  if (name.starts_with('/')) return name;
  return base == "/" ? base + name : base + "/" + name;
}

std::string attribute_path(const Handle& object, const std::string& name) {
  return name_of(object) + "@" + name;
}

Handle file_access() {
  Handle access(checked("cannot set up HDF5", [] { return H5Pcreate(H5P_FILE_ACCESS); }), H5Pclose);
  checked("cannot set up HDF5",
          [&] { return H5Pset_libver_bounds(access.id(), H5F_LIBVER_V18, H5F_LIBVER_V18); });
  // Files are renamed into place when they are complete and never change after: a lock would protect nothing,
  // and cluster file systems often refuse one.
  checked("cannot set up HDF5", [&] { return H5Pset_file_locking(access.id(), false, true); });
  // A file whose close succeeded must be closed, whatever else is still open.
  checked("cannot set up HDF5", [&] { return H5Pset_fclose_degree(access.id(), H5F_CLOSE_STRONG); });
  return access;
}

Handle make_space(const Shape& shape) {
  if (shape.rank() == 0) {
    return {checked("cannot make a dataspace", [] { return H5Screate(H5S_SCALAR); }), H5Sclose};
  }
  std::vector<hsize_t> dims(shape.dims().begin(), shape.dims().end());
  return {checked("cannot make a dataspace",
                  [&] { return H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr); }),
          H5Sclose};
}

Handle text_type(std::size_t size) {
  Handle type(checked("cannot make a text type", [] { return H5Tcopy(H5T_C_S1); }), H5Tclose);
  checked("cannot make a text type", [&] { return H5Tset_size(type.id(), std::max<std::size_t>(size, 1)); });
  checked("cannot make a text type", [&] { return H5Tset_strpad(type.id(), H5T_STR_NULLPAD); });
  checked("cannot make a text type", [&] { return H5Tset_cset(type.id(), H5T_CSET_UTF8); });
  return type;
}

Handle copy_type(hid_t type) {
  return {checked("cannot copy a type", [&] { return H5Tcopy(type); }), H5Tclose};
}

Handle create_dataset(const Handle& parent, const std::string& name, hid_t type, const Handle& space) {
  return {checked("cannot create the dataset", child_path(parent, name),
                  [&] {
                    return H5Dcreate2(parent.id(), name.c_str(), type, space.id(), H5P_DEFAULT, H5P_DEFAULT,
                                      H5P_DEFAULT);
                  }),
          H5Dclose};
}

// Where types differ, HDF5 converts values in a buffer, which it clears each time: 1 MiB, however few there are.
Handle transfer_of(const Handle& dataset, hid_t memory_type) {
  const auto where = name_of(dataset);
  constexpr std::size_t kDefaultBytes = std::size_t{1} << 20;
  Handle transfer(checked("cannot set up HDF5", [] { return H5Pcreate(H5P_DATASET_XFER); }), H5Pclose);
  const Handle type(checked("cannot read the type", where, [&] { return H5Dget_type(dataset.id()); }),
                    H5Tclose);
  const Handle space(checked("cannot read the extents", where, [&] { return H5Dget_space(dataset.id()); }),
                     H5Sclose);
  const auto values = H5Sget_simple_extent_npoints(space.id());
  const auto each = std::max({H5Tget_size(type.id()), H5Tget_size(memory_type), std::size_t{1}});
  if (values < 0 || std::cmp_greater(values, kDefaultBytes / each)) return transfer;
  const auto bytes = each * std::max<std::size_t>(1, static_cast<std::size_t>(values));
  checked("cannot set up HDF5", [&] { return H5Pset_buffer(transfer.id(), bytes, nullptr, nullptr); });
  return transfer;
}

void write_values(const Handle& dataset, hid_t type, const void* values) {
  const auto transfer = transfer_of(dataset, type);
  checked("cannot write the dataset", name_of(dataset),
          [&] { return H5Dwrite(dataset.id(), type, H5S_ALL, H5S_ALL, transfer.id(), values); });
}

void write_attribute(const Handle& object, const std::string& name, hid_t file_type, hid_t memory_type,
                     const Shape& shape, const void* values) {
  const auto where = attribute_path(object, name);
  const auto space = make_space(shape);
  const Handle attribute(checked("cannot create the attribute", where,
                                 [&] {
                                   return H5Acreate2(object.id(), name.c_str(), file_type, space.id(),
                                                     H5P_DEFAULT, H5P_DEFAULT);
                                 }),
                         H5Aclose);
  checked("cannot write the attribute", where, [&] { return H5Awrite(attribute.id(), memory_type, values); });
}

bool has_attribute(const Handle& object, const std::string& name) {
  return checked("cannot look for the attribute", attribute_path(object, name),
                 [&] { return H5Aexists(object.id(), name.c_str()); }) > 0;
}

Handle open_attribute(const Handle& object, const std::string& name, H5T_class_t expected) {
  const auto where = attribute_path(object, name);
  if (!has_attribute(object, name)) throw Error("the attribute is missing").at(where);
  Handle attribute(checked("cannot open the attribute", where,
                           [&] { return H5Aopen(object.id(), name.c_str(), H5P_DEFAULT); }),
                   H5Aclose);
  const Handle type(
      checked("cannot read the attribute's type", where, [&] { return H5Aget_type(attribute.id()); }),
      H5Tclose);
  if (H5Tget_class(type.id()) != expected) throw Error("the attribute is of another type").at(where);
  return attribute;
}

// Number of values of an attribute; a scalar has one.
std::size_t attribute_values(const Handle& attribute, const std::string& where) {
  const Handle space(
      checked("cannot read the attribute's extent", where, [&] { return H5Aget_space(attribute.id()); }),
      H5Sclose);
  return static_cast<std::size_t>(checked("cannot read the attribute's extent", where,
                                          [&] { return H5Sget_simple_extent_npoints(space.id()); }));
}

template <class T>
T read_scalar(const Handle& object, const std::string& name, H5T_class_t expected, hid_t memory_type) {
  const auto where = attribute_path(object, name);
  const auto attribute = open_attribute(object, name, expected);
  if (attribute_values(attribute, where) != 1) throw Error("the attribute is no single number").at(where);
  T value{};
  checked("cannot read the attribute", where, [&] { return H5Aread(attribute.id(), memory_type, &value); });
  return value;
}

std::string without_padding(std::string text) {
  text.erase(std::find(text.begin(), text.end(), '\0'), text.end());
  return text;
}

std::string read_variable_text(const Handle& attribute, const Handle& type, const std::string& where) {
  char* text = nullptr;
  checked("cannot read the attribute", where, [&] { return H5Aread(attribute.id(), type.id(), &text); });
  std::string copy = text == nullptr ? "" : text;
  H5free_memory(text);
  return copy;
}

std::string read_text_attribute(const Handle& object, const std::string& name) {
  const auto where = attribute_path(object, name);
  const auto attribute = open_attribute(object, name, H5T_STRING);
  const Handle type(
      checked("cannot read the attribute's type", where, [&] { return H5Aget_type(attribute.id()); }),
      H5Tclose);
  if (attribute_values(attribute, where) != 1) throw Error("the attribute is no single text").at(where);
  if (H5Tis_variable_str(type.id()) > 0) return read_variable_text(attribute, type, where);
  // H5Aopen has read all of it: the size is as real as the attribute.
  std::string text(H5Tget_size(type.id()), '\0');
  checked("cannot read the attribute", where,
          [&] { return H5Aread(attribute.id(), type.id(), text.data()); });
  return without_padding(std::move(text));
}

std::string read_text_dataset(const Handle& object, const std::string& name) {
  const auto dataset = open_dataset(object, name);
  const auto where = name_of(dataset);
  const Handle type(checked("cannot read the type", where, [&] { return H5Dget_type(dataset.id()); }),
                    H5Tclose);
  if (H5Tget_class(type.id()) != H5T_STRING || H5Tis_variable_str(type.id()) > 0) {
    throw Error("the dataset is no text of fixed length").at(where);
  }
  const Handle file(checked("cannot find the file", where, [&] { return H5Iget_file_id(dataset.id()); }),
                    H5Fclose);
  hsize_t file_size = 0;
  checked("cannot find the file's size", where, [&] { return H5Fget_filesize(file.id(), &file_size); });
  const auto info = describe(dataset, file_size);
  if (info.shape.rank() != 0) throw Error("the dataset is no single text").at(where).got(info.shape.str());
  std::string text(info.element_size, '\0');
  read_values(dataset, type.id(), text.data());
  return without_padding(std::move(text));
}

std::uintmax_t multiply(std::uintmax_t a, std::uintmax_t b) {
  const auto most = std::numeric_limits<std::uintmax_t>::max();
  return b != 0 && a > most / b ? most : a * b;
}

// Bytes that a dataset may claim: what it stores, or what its filters can have made of that.
std::uintmax_t plausible_bytes(const Handle& dataset, std::uintmax_t file_size) {
  const auto where = name_of(dataset);
  const Handle creation(
      checked("cannot read the layout", where, [&] { return H5Dget_create_plist(dataset.id()); }), H5Pclose);
  const auto layout = checked("cannot read the layout", where, [&] { return H5Pget_layout(creation.id()); });
  if (layout == H5D_VIRTUAL) {
    throw Error("virtual datasets are not supported").at(where).hint("copy it into one file with h5repack");
  }
  const std::uintmax_t stored = std::min<std::uintmax_t>(H5Dget_storage_size(dataset.id()), file_size);
  return layout == H5D_CHUNKED ? multiply(stored, kMaxExpansion) : stored;
}

}  // namespace

Handle::~Handle() {
  if (closer_ == nullptr) return;
  be_silent();
  // While an exception is in flight its message is what counts: a failing close is most likely its
  // consequence.
  if (closer_(id_) < 0 && std::uncaught_exceptions() == 0)
    log::warn("closing an HDF5 object: " + stack_text());
}

void Handle::close() {
  const auto id = std::exchange(id_, H5I_INVALID_HID);
  const auto closer = std::exchange(closer_, nullptr);
  if (closer != nullptr) checked("cannot close", [&] { return closer(id); });
}

Handle create_in_memory(std::size_t expected_bytes) {
  const auto access = file_access();
  // Memory grows by this much at a time: a small part of the file, so that little is left over at its end.
  const auto growth = std::clamp<std::size_t>(expected_bytes / 8, 1 << 16, 1 << 24);
  checked("cannot set up HDF5", [&] { return H5Pset_fapl_core(access.id(), growth, false); });
  // HDF5 tells files in memory apart by name alone, and a writer's thread may be at work on another.
  static std::atomic<std::uint64_t> count{0};
  const auto name = fmt::format("in memory {}", count++);
  return {checked("cannot create a file in memory",
                  [&] { return H5Fcreate(name.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.id()); }),
          H5Fclose};
}

std::span<const std::byte> image_of(const Handle& file) {
  checked("cannot complete the file", [&] { return H5Fflush(file.id(), H5F_SCOPE_GLOBAL); });
  const auto size =
      checked("cannot find the file's size", [&] { return H5Fget_file_image(file.id(), nullptr, 0); });
  void* image = nullptr;
  checked("cannot find the file's memory", [&] { return H5Fget_vfd_handle(file.id(), H5P_DEFAULT, &image); });
  return {*static_cast<const std::byte* const*>(image), static_cast<std::size_t>(size)};
}

Handle open_file(const std::filesystem::path& path) {
  // HDF5 would wait for a pipe, and says little of a path that leads nowhere.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) throw Error("cannot open the file").got(std::strerror(errno));
  ::close(descriptor);
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) {
    const bool directory = std::filesystem::is_directory(path, ignored);
    throw Error("cannot open the file")
        .expected("a regular file")
        .got(directory ? "a directory" : "a special file");
  }
  const auto access = file_access();
  return {checked("cannot open as HDF5", [&] { return H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id()); }),
          H5Fclose};
}

Handle create_group(const Handle& parent, const std::string& name) {
  return {
      checked("cannot create the group", child_path(parent, name),
              [&] { return H5Gcreate2(parent.id(), name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT); }),
      H5Gclose};
}

Handle open_group(const Handle& parent, const std::string& name) {
  const auto where = child_path(parent, name);
  if (!exists(parent, name)) throw Error("the group is missing").at(where);
  return {checked("cannot open the group", where,
                  [&] { return H5Gopen2(parent.id(), name.c_str(), H5P_DEFAULT); }),
          H5Gclose};
}

Handle open_dataset(const Handle& parent, const std::string& name) {
  const auto where = child_path(parent, name);
  if (!exists(parent, name)) throw Error("the dataset is missing").at(where);
  return {checked("cannot open the dataset", where,
                  [&] { return H5Dopen2(parent.id(), name.c_str(), H5P_DEFAULT); }),
          H5Dclose};
}

bool exists(const Handle& parent, const std::string& name) {
  const auto where = child_path(parent, name);
  // H5Lexists wants every part before the last to exist.
  for (auto end = name.find('/', 1);; end = name.find('/', end + 1)) {
    const auto part = name.substr(0, end);
    const auto found =
        checked("cannot look up", where, [&] { return H5Lexists(parent.id(), part.c_str(), H5P_DEFAULT); });
    if (found == 0) return false;
    // A part that is a dataset, or a link that leads nowhere, has nothing below it.
    if (checked("cannot look up", where,
                [&] { return H5Oexists_by_name(parent.id(), part.c_str(), H5P_DEFAULT); }) == 0) {
      return false;
    }
    if (end == std::string::npos) return true;
    const Handle object(
        checked("cannot open", where, [&] { return H5Oopen(parent.id(), part.c_str(), H5P_DEFAULT); }),
        H5Oclose);
    if (H5Iget_type(object.id()) != H5I_GROUP) return false;
  }
}

std::vector<std::string> children(const Handle& group) {
  std::vector<std::string> names;
  checked("cannot list the group", name_of(group), [&] {
    return H5Literate(group.id(), H5_INDEX_NAME, H5_ITER_INC, nullptr, collect_name<H5L_info_t>, &names);
  });
  return names;
}

std::vector<std::string> attributes(const Handle& object) {
  std::vector<std::string> names;
  checked("cannot list the attributes", name_of(object), [&] {
    return H5Aiterate2(object.id(), H5_INDEX_NAME, H5_ITER_INC, nullptr, collect_name<H5A_info_t>, &names);
  });
  return names;
}

std::string name_of(const Handle& object) {
  be_silent();
  const auto length = H5Iget_name(object.id(), nullptr, 0);
  if (length <= 0) return "/";
  std::string name(static_cast<std::size_t>(length), '\0');
  H5Iget_name(object.id(), name.data(), name.size() + 1);
  return name;
}

DatasetInfo describe(const Handle& dataset, std::uintmax_t file_size) {
  const auto where = name_of(dataset);
  const Handle space(checked("cannot read the extent", where, [&] { return H5Dget_space(dataset.id()); }),
                     H5Sclose);
  const Handle type(checked("cannot read the type", where, [&] { return H5Dget_type(dataset.id()); }),
                    H5Tclose);
  if (H5Sget_simple_extent_type(space.id()) == H5S_NULL) throw Error("the dataset is empty").at(where);
  const int rank =
      checked("cannot read the extent", where, [&] { return H5Sget_simple_extent_ndims(space.id()); });
  std::vector<hsize_t> dims(static_cast<std::size_t>(rank));
  checked("cannot read the extent", where,
          [&] { return H5Sget_simple_extent_dims(space.id(), dims.data(), nullptr); });

  DatasetInfo info;
  info.element_size = H5Tget_size(type.id());
  info.type = H5Tget_class(type.id());
  std::uintmax_t bytes = info.element_size;
  bool is_empty = false;
  for (const auto extent : dims) {
    bytes = multiply(bytes, std::max<hsize_t>(extent, 1));
    is_empty = is_empty || extent == 0;
  }
  const auto limit = is_empty ? std::uintmax_t{1} << 62 : plausible_bytes(dataset, file_size);
  if (bytes > limit) {
    throw Error("the dataset claims more values than the file holds")
        .at(where)
        .expected(fmt::format("at most {} bytes", limit))
        .got(fmt::format("extents {} of {} bytes each", fmt::join(dims, "x"), info.element_size));
  }
  info.shape = Shape(std::vector<std::int64_t>(dims.begin(), dims.end()));
  return info;
}

bool has_type(const Handle& dataset, hid_t type) {
  const auto where = name_of(dataset);
  const Handle own(checked("cannot read the type", where, [&] { return H5Dget_type(dataset.id()); }),
                   H5Tclose);
  return checked("cannot compare types", where, [&] { return H5Tequal(own.id(), type); }) > 0;
}

Handle write_array(const Handle& parent, const std::string& name, const Shape& shape,
                   std::span<const float> values) {
  auto dataset = create_dataset(parent, name, H5T_IEEE_F32LE, make_space(shape));
  if (!values.empty()) write_values(dataset, H5T_NATIVE_FLOAT, values.data());
  return dataset;
}

Handle write_array(const Handle& parent, const std::string& name, const Shape& shape,
                   std::span<const std::int32_t> values) {
  auto dataset = create_dataset(parent, name, H5T_STD_I32LE, make_space(shape));
  if (!values.empty()) write_values(dataset, H5T_NATIVE_INT32, values.data());
  return dataset;
}

void read_values(const Handle& dataset, hid_t memory_type, void* values) {
  const auto transfer = transfer_of(dataset, memory_type);
  checked("cannot read the values", name_of(dataset),
          [&] { return H5Dread(dataset.id(), memory_type, H5S_ALL, H5S_ALL, transfer.id(), values); });
}

void write_text(const Handle& object, const std::string& name, std::string_view text) {
  const auto type = text_type(text.size());
  const std::string bytes(text.empty() ? std::string_view("\0", 1) : text);
  if (text.size() <= kMaxAttributeText) {
    write_attribute(object, name, type.id(), type.id(), {}, bytes.data());
  } else {
    auto dataset = create_dataset(object, name, type.id(), make_space({}));
    write_values(dataset, type.id(), bytes.data());
    dataset.close();
  }
}

std::string read_text(const Handle& object, const std::string& name) {
  const bool is_group = H5Iget_type(object.id()) == H5I_GROUP;
  if (is_group && !has_attribute(object, name) && exists(object, name))
    return read_text_dataset(object, name);
  return read_text_attribute(object, name);
}

void write_integer(const Handle& object, const std::string& name, std::int64_t value) {
  write_attribute(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, {}, &value);
}

std::int64_t read_integer(const Handle& object, const std::string& name) {
  return read_scalar<std::int64_t>(object, name, H5T_INTEGER, H5T_NATIVE_INT64);
}

void write_unsigned(const Handle& object, const std::string& name, std::uint64_t value) {
  write_attribute(object, name, H5T_STD_U64LE, H5T_NATIVE_UINT64, {}, &value);
}

std::uint64_t read_unsigned(const Handle& object, const std::string& name) {
  return read_scalar<std::uint64_t>(object, name, H5T_INTEGER, H5T_NATIVE_UINT64);
}

void write_real(const Handle& object, const std::string& name, double value) {
  write_attribute(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, {}, &value);
}

double read_real(const Handle& object, const std::string& name) {
  return read_scalar<double>(object, name, H5T_FLOAT, H5T_NATIVE_DOUBLE);
}

void write_shape(const Handle& object, const std::string& name, const Shape& shape) {
  const Shape extent{static_cast<std::int64_t>(shape.rank())};
  static constexpr std::int64_t none = 0;  // the library wants an address even for no values
  write_attribute(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, extent,
                  shape.rank() == 0 ? &none : shape.dims().data());
}

Shape read_shape(const Handle& object, const std::string& name) {
  const auto where = attribute_path(object, name);
  const auto attribute = open_attribute(object, name, H5T_INTEGER);
  const auto count = attribute_values(attribute, where);
  if (count > H5S_MAX_RANK)
    throw Error("the shape has too many extents").at(where).got(std::to_string(count));
  std::vector<std::int64_t> dims(count);
  if (count != 0) {
    checked("cannot read the attribute", where,
            [&] { return H5Aread(attribute.id(), H5T_NATIVE_INT64, dims.data()); });
  }
  return Shape(std::move(dims));
}

TableWriter& TableWriter::column(std::string name, std::vector<std::string> values) {
  std::size_t size = 1;
  for (const auto& text : values) size = std::max(size, text.size());
  for (auto& text : values) text.resize(size, '\0');
  return add(std::move(name), text_type(size), std::move(values));
}

TableWriter& TableWriter::column(std::string name, std::vector<std::int64_t> values) {
  std::vector<std::string> cells;
  for (const auto& value : values) cells.emplace_back(reinterpret_cast<const char*>(&value), sizeof value);
  return add(std::move(name), copy_type(H5T_STD_I64LE), std::move(cells));
}

TableWriter& TableWriter::column(std::string name, std::vector<double> values) {
  std::vector<std::string> cells;
  for (const auto& value : values) cells.emplace_back(reinterpret_cast<const char*>(&value), sizeof value);
  return add(std::move(name), copy_type(H5T_IEEE_F64LE), std::move(cells));
}

TableWriter& TableWriter::add(std::string name, Handle type, std::vector<std::string> cells) {
  rows_ = cells.size();
  columns_.push_back({std::move(name), std::move(type), std::move(cells)});
  return *this;
}

void TableWriter::write(const Handle& parent, const std::string& name) const {
  std::size_t width = 0;
  for (const auto& column : columns_) width += H5Tget_size(column.type.id());
  const Handle record(checked("cannot make a record type", [&] { return H5Tcreate(H5T_COMPOUND, width); }),
                      H5Tclose);
  std::size_t offset = 0;
  for (const auto& column : columns_) {
    checked("cannot make a record type",
            [&] { return H5Tinsert(record.id(), column.name.c_str(), offset, column.type.id()); });
    offset += H5Tget_size(column.type.id());
  }
  std::string rows;
  rows.reserve(width * rows_);
  for (std::size_t row = 0; row < rows_; ++row) {
    for (const auto& column : columns_) rows += column.cells[row];
  }
  auto dataset = create_dataset(parent, name, record.id(), make_space({static_cast<std::int64_t>(rows_)}));
  if (rows_ != 0) write_values(dataset, record.id(), rows.data());
  dataset.close();
}

TableReader::TableReader(const Handle& parent, const std::string& name, std::uintmax_t file_size)
    : dataset_(open_dataset(parent, name)) {
  const auto info = describe(dataset_, file_size);
  if (info.type != H5T_COMPOUND || info.shape.rank() != 1) {
    throw Error("the dataset is no list of records").at(name_of(dataset_));
  }
  rows_ = static_cast<std::size_t>(info.shape[0]);
  type_ = Handle(checked("cannot read the type", [&] { return H5Dget_type(dataset_.id()); }), H5Tclose);
}

Handle TableReader::member(const std::string& column, H5T_class_t expected) const {
  be_silent();
  const int index = H5Tget_member_index(type_.id(), column.c_str());
  if (index < 0) throw Error("the column '" + column + "' is missing").at(name_of(dataset_));
  const auto i = static_cast<unsigned>(index);
  if (H5Tget_member_class(type_.id(), i) != expected) {
    throw Error("the column '" + column + "' is of another type").at(name_of(dataset_));
  }
  return {checked("cannot read the type", [&] { return H5Tget_member_type(type_.id(), i); }), H5Tclose};
}

void TableReader::read(const std::string& column, const Handle& type, std::size_t size, void* values) const {
  const Handle record(checked("cannot make a record type", [&] { return H5Tcreate(H5T_COMPOUND, size); }),
                      H5Tclose);
  checked("cannot make a record type", [&] { return H5Tinsert(record.id(), column.c_str(), 0, type.id()); });
  if (rows_ != 0) read_values(dataset_, record.id(), values);
}

std::vector<std::string> TableReader::texts(const std::string& column) const {
  const auto type = member(column, H5T_STRING);
  if (H5Tis_variable_str(type.id()) > 0) {
    throw Error("the column '" + column + "' is no text of fixed length").at(name_of(dataset_));
  }
  const auto size = H5Tget_size(type.id());
  std::string bytes(size * rows_, '\0');
  read(column, type, size, bytes.data());
  std::vector<std::string> texts;
  for (std::size_t row = 0; row < rows_; ++row)
    texts.push_back(without_padding(bytes.substr(row * size, size)));
  return texts;
}

std::vector<std::int64_t> TableReader::integers(const std::string& column) const {
  const auto stored = member(column, H5T_INTEGER);  // refuses another type
  std::vector<std::int64_t> values(rows_);
  read(column, copy_type(H5T_NATIVE_INT64), sizeof(std::int64_t), values.data());
  return values;
}

std::vector<double> TableReader::reals(const std::string& column) const {
  const auto stored = member(column, H5T_FLOAT);  // refuses another type
  std::vector<double> values(rows_);
  read(column, copy_type(H5T_NATIVE_DOUBLE), sizeof(double), values.data());
  return values;
}

}  // namespace impart::io::h5

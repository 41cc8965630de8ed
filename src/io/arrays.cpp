#include "impart/io/arrays.hpp"

#include <utility>

#include "impart/core/error.hpp"
#include "impart/core/files.hpp"
#include "io/hdf5.hpp"

namespace impart::io {

void write_arrays(const std::filesystem::path& path, std::span<const NamedArray> arrays) {
  std::size_t bytes = 1 << 16;  // for all but the values
  for (const auto& array : arrays) bytes += static_cast<std::size_t>(array.shape.elements()) * sizeof(float);
  try {
    const auto file = h5::create_in_memory(bytes);
    for (const auto& array : arrays) {
      const auto write = [&](auto values) {
        if (std::cmp_not_equal(values.size(), array.shape.elements())) {
          throw Error("the array has other values than its shape says")
              .at(array.name)
              .expected(array.shape.str())
              .got(std::to_string(values.size()));
        }
        h5::write_array(file, array.name, array.shape, values).close();
      };
      std::visit(write, array.values);
    }
    AtomicFile target(path);
    target.write(h5::image_of(file));
    target.commit();
  } catch (Error& e) {
    e.at(path.string());
    throw;
  }
}

}  // namespace impart::io

#include "impart/runner/version.hpp"

#include <dnnl_version.h>
#include <fmt/format.h>
#include <hdf5.h>

namespace impart::runner {

std::string version_line() {
  return fmt::format("impart {}; oneDNN {}.{}.{}; HDF5 {}.{}.{}", IMPART_VERSION, DNNL_VERSION_MAJOR,
                     DNNL_VERSION_MINOR, DNNL_VERSION_PATCH, H5_VERS_MAJOR, H5_VERS_MINOR, H5_VERS_RELEASE);
}

}  // namespace impart::runner

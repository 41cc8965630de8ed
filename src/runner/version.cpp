#include "impart/runner/version.hpp"

#include <fmt/format.h>
#include <hdf5.h>

#include "impart/nn/network.hpp"

namespace impart::runner {

std::string version_line() {
  return fmt::format("impart {}; {}; HDF5 {}.{}.{}", IMPART_VERSION, nn::kernel_library(), H5_VERS_MAJOR,
                     H5_VERS_MINOR, H5_VERS_RELEASE);
}

}  // namespace impart::runner

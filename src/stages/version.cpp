#include "impart/stages/commands.hpp"

#include <fmt/format.h>
#include <hdf5.h>

#include "impart/nn/network.hpp"

namespace impart::stages {

std::string version_line() {
  return fmt::format("impart {}; {}; HDF5 {}.{}.{}", IMPART_VERSION, nn::kernel_library(), H5_VERS_MAJOR,
                     H5_VERS_MINOR, H5_VERS_RELEASE);
}

}  // namespace impart::stages

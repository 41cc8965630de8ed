// The version of this program.
#pragma once

#include <string>

namespace impart::runner {

/// Name and version of the program and of its libraries.
std::string version_line();

}  // namespace impart::runner

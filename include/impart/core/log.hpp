// Log lines for people: rank 0 informs, every rank may warn.
#pragma once

#include <string_view>

namespace impart::log {

/// Says who speaks. Before the first call the process speaks as the only rank. Information comes from rank 0
/// alone; warnings and errors come from any rank, tagged with it when there are several.
void configure(int rank, int size);

void info(std::string_view line);
void warn(std::string_view line);
void error(std::string_view line);

}  // namespace impart::log

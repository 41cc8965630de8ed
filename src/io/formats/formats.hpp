// The formats of data sets, one a file; data_format.cpp has the table.
#pragma once

#include "impart/io/data_format.hpp"

namespace impart::io {

DataFormatPtr make_idx(Settings& settings, const PathResolver& resolve);
DataFormatPtr make_csv(Settings& settings, const PathResolver& resolve);
DataFormatPtr make_cifar(Settings& settings, const PathResolver& resolve);
DataFormatPtr make_hdf5(Settings& settings, const PathResolver& resolve);
DataFormatPtr make_text(Settings& settings, const PathResolver& resolve);

/// The file that `key` names; a problem when there is none.
std::filesystem::path require_file(Settings& settings, std::string_view key, const PathResolver& resolve,
                                   std::string_view text);
/// The same, where there need not be one: then the path is empty.
std::filesystem::path read_file(Settings& settings, std::string_view key, const PathResolver& resolve,
                                std::string_view text);
/// `shape`, of one sample.
void read_shape(Settings& settings, Shape& shape);

}  // namespace impart::io

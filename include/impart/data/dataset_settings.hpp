// DatasetSettings: what is said of a data set: its files, its parts, and how its samples are encoded.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "impart/core/settings.hpp"
#include "impart/core/tensor.hpp"
#include "impart/io/data_format.hpp"

namespace impart::data {

/// The parts of a data set, in the order of `kPartNames`; and all of it.
enum class Part : std::uint8_t { kTrain, kValidation, kTest, kAll };
inline constexpr std::array<std::string_view, 3> kPartNames = {"train", "validation", "test"};
std::string_view part_name(Part part);

struct DatasetSettings {
  io::DataFormatPtr format;
  int classes = 10;
  std::array<double, 3> split = {1, 0, 0};  ///< fractions of the parts, sum at most 1
  std::array<std::int64_t, 3> limit = {};   ///< samples of each class that a part keeps; 0: all
  Shape resize;                             ///< (height, width); empty: not resized
  std::optional<double> scale;              ///< of stored values; nothing: io::default_scale
  bool normalise = true;     ///< by mean and standard deviation of the training part, for each channel
  std::vector<double> mean;  ///< these instead; one for each channel
  std::vector<double> std;
};

/// Reads a data set's table whole: its `format`, that format's settings (io::data_formats), and what all have
/// alike. Where documentation is made, only the latter is told: a format's own are told under its name.
/// `format` of the result is null when it is missing or unknown, which is a problem.
DatasetSettings read_dataset_settings(Settings& settings, const io::PathResolver& resolve);

/// The shape of a sample as a network gets it. Throws Error when the settings do not fit what the files say of
/// themselves: images to be resized that are none, means for other channels, a limit of classes without
/// labels, a text of other characters than `classes` says.
Shape check_samples(const DatasetSettings& settings, const io::SampleInfo& info);

}  // namespace impart::data

#include "stages/data_source.hpp"

#include "impart/core/error.hpp"

namespace impart::stages {

std::unique_ptr<io::SampleSource> open_source(const DatasetSettings& settings) {
  const auto& files = settings.files;
  switch (settings.format) {
    case DataFormat::kIdx:
      return io::open_idx(files.at(0), files.size() > 1 ? files[1] : std::filesystem::path());
    case DataFormat::kCsv:
      return io::open_csv(files.at(0), {settings.header, settings.label, settings.shape, settings.separator});
    case DataFormat::kCifar:
      return settings.shape.rank() == 0 ? io::open_cifar(files) : io::open_cifar(files, settings.shape);
    case DataFormat::kHdf5:
      return io::open_hdf5(files.at(0), settings.samples, settings.labels, settings.shape);
    case DataFormat::kText:
      return io::open_text(files.at(0), {settings.context, settings.stride, settings.vocabulary});
  }
  throw Error("unknown data format").at(settings.name);
}

}  // namespace impart::stages

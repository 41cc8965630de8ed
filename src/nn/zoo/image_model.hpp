// What networks for images share: settings, and convolutions with torchvision's padding and initial values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nn/zoo/models.hpp"

namespace impart::nn {

struct Convolution {
  std::int64_t filters = 0;
  std::int64_t kernel = 1;
  std::int64_t stride = 1;
  std::int64_t groups = 1;
  bool bias = false;
};

class ImageModel {
 public:
  /// Reads stem and width, and sync, where there are batch norms.
  ImageModel(Settings& settings, bool has_batch_norms);

  /// Channels times width: the nearest multiple of 8, but not less than nine tenths (the rule of
  /// MobileNetV2's authors).
  [[nodiscard]] std::int64_t channels(std::int64_t count) const {
    return nearest(static_cast<double>(count) * width);
  }
  static std::int64_t nearest(double wanted);

  void convolution(const std::string& name, const Convolution& c, std::vector<std::string> from = {});
  /// Returns its name.
  std::string batch_norm(const std::string& name) { return model.add("batch_norm", name, norm_settings); }
  void dense(const std::string& name, std::int64_t units, const char* init) {
    model.add("dense", name, {{"units", units}, {"init", init}});
  }

  bool cifar = false;
  double width = 1;
  SettingTable norm_settings;
  ZooModel model;
};

/// The dropout of a classifier.
double read_dropout(Settings& settings, double fallback);

}  // namespace impart::nn

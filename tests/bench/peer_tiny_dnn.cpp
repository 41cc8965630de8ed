// The zoo's "cnn" in tiny-dnn. Usage: peer_tiny_dnn BATCH STEPS
#define CNN_USE_AVX  // its fastest backend
#define CNN_SINGLE_THREAD
#include <tiny_dnn/tiny_dnn.h>

#include "peer.hpp"

int main(int argc, char** argv) {
  using namespace tiny_dnn;
  const auto [batch, steps] = impart::peer::read_work(argc, argv);
  const auto made = impart::peer::random_batch(batch);
  std::vector<vec_t> images;
  for (const auto& image : made.images) images.emplace_back(image.begin(), image.end());
  const std::vector<label_t> labels(made.labels.begin(), made.labels.end());

  const auto backend = core::default_engine();
  network<sequential> net;
  using relu = activation::relu;
  net << convolutional_layer<relu>(28, 28, 3, 1, 32, padding::valid, true, 1, 1, backend)
      << max_pooling_layer<activation::identity>(26, 26, 32, 2, backend)
      << convolutional_layer<relu>(13, 13, 3, 32, 64, padding::valid, true, 1, 1, backend)
      << max_pooling_layer<activation::identity>(11, 11, 64, 2, backend)
      << convolutional_layer<relu>(5, 5, 3, 64, 64, padding::valid, true, 1, 1, backend)
      << fully_connected_layer<relu>(576, 64, true, backend)
      << fully_connected_layer<activation::softmax>(64, impart::peer::kClasses, true, backend);
  momentum optimizer;
  optimizer.alpha = static_cast<float_t>(impart::peer::kLearningRate);
  optimizer.mu = static_cast<float_t>(impart::peer::kMomentum);
  bool first = true;
  const auto step = [&] {
    // One epoch of one batch; only the first call draws the initial values.
    net.train<cross_entropy_multiclass>(
        optimizer, images, labels, static_cast<std::size_t>(batch), 1, [] {}, [] {}, first);
    first = false;
  };
  step();
  std::size_t parameters = 0;
  for (std::size_t i = 0; i < net.depth(); ++i) {
    for (const auto* values : net[i]->weights()) parameters += values->size();
  }
  impart::peer::measure(batch, steps, parameters, "1.0.0a3", step);
}

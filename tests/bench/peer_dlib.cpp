// The zoo's "cnn" in dlib. Usage: peer_dlib BATCH STEPS
#include <dlib/dnn.h>
#include <dlib/revision.h>

#include "peer.hpp"

namespace {

using namespace dlib;  // its networks are types of nested templates

template <long filters, class Below>
using conv = add_layer<con_<filters, 3, 3, 1, 1, 0, 0>, Below>;
using Net = loss_multiclass_log<fc<
    impart::peer::kClasses,
    relu<fc<64, relu<conv<64, max_pool<2, 2, 2, 2,
                                       relu<conv<64, max_pool<2, 2, 2, 2,
                                                              relu<conv<32, input<matrix<float>>>>>>>>>>>>>>;

}  // namespace

int main(int argc, char** argv) {
  const auto [batch, steps] = impart::peer::read_work(argc, argv);
  const auto made = impart::peer::random_batch(batch);
  std::vector<matrix<float>> images;
  for (const auto& image : made.images) {
    images.emplace_back(mat(image.data(), impart::peer::kSide, impart::peer::kSide));
  }
  Net net;
  std::vector<sgd> solvers(net.num_computational_layers, sgd(0, impart::peer::kMomentum));
  // A step as dnn_trainer does it, without the thread that it gives each step.
  resizable_tensor input;
  const auto step = [&] {
    net.to_tensor(images.begin(), images.end(), input);
    net.compute_loss(input, made.labels.begin());
    net.compute_parameter_gradients(input, made.labels.begin());
    net.update_parameters(solvers, impart::peer::kLearningRate);
  };
  step();  // the first pass decides the shapes
  std::size_t parameters = 0;
  visit_layer_parameters(net, [&](std::size_t, tensor& values) { parameters += values.size(); });
  impart::peer::measure(batch, steps, parameters,
                        std::to_string(DLIB_MAJOR_VERSION) + "." + std::to_string(DLIB_MINOR_VERSION), step);
}

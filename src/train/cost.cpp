#include "impart/train/cost.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "impart/core/clock.hpp"
#include "impart/nn/network.hpp"

namespace impart::train {

double seconds_per_sample(const nn::ModelSpec& spec, std::int64_t batch) {
  nn::use_one_kernel_thread();
  nn::Network network(spec, batch, {.training = true});
  const auto state = nn::initial_state(spec, 0);
  StateDict gradients(state.layout_ptr());
  const std::vector<std::uint64_t> ids(static_cast<std::size_t>(batch));
  const nn::Pass pass{.training = true, .sample_ids = ids};
  const std::vector<float> input(static_cast<std::size_t>(batch * spec.input.elements()));
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 2; ++i) {
    const auto start = Clock::now();
    network.load(state);
    std::vector<float> gradient(network.forward(pass, input).size());
    network.backward(pass, gradient, gradients);
    best = std::min(best, seconds_since(start));
  }
  return best / static_cast<double>(batch);
}

}  // namespace impart::train

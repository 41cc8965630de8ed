#include "share/distil/distil_losses.hpp"

namespace impart::share {

namespace {

using DistilLosses = Registry<std::unique_ptr<DistilLoss>>;

constexpr DistilLosses::Entry kLosses[] = {
    {"hinton", "(1 - w) CE + w T^2 KL(p_teacher^T || p_student^T) (Hinton et al. 2015)", make_hinton},
    {"hint", "a layer of the student tells what a layer of its teacher says (Romero et al. 2015)", make_hint},
};

}  // namespace

const DistilLosses& distil_losses() {
  static const DistilLosses registry("loss", kLosses);
  return registry;
}

}  // namespace impart::share

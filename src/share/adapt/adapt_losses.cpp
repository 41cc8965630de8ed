#include "share/adapt/adapt_losses.hpp"

namespace impart::share {

namespace {

using AdaptLosses = Registry<std::unique_ptr<AdaptLoss>>;

constexpr AdaptLosses::Entry kLosses[] = {
    {"coral", "the covariances of both domains' features become equal (Sun and Saenko 2016)", make_coral},
};

}  // namespace

const AdaptLosses& adapt_losses() {
  static const AdaptLosses registry("adaptation loss", kLosses);
  return registry;
}

}  // namespace impart::share

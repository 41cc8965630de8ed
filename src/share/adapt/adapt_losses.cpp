#include "share/adapt/adapt_losses.hpp"

namespace impart::share {

namespace {

using AdaptLosses = Registry<std::unique_ptr<AdaptLoss>>;

constexpr std::span<const AdaptLosses::Entry> kLosses;

}  // namespace

const AdaptLosses& adapt_losses() {
  static const AdaptLosses registry("adaptation loss", kLosses);
  return registry;
}

}  // namespace impart::share

// The multiply-add units at full speed; part of kernels.inl.
namespace impart::nn {
namespace {

// Enough chains of multiply-adds to fill the latency of two units; none leaves its register.
constexpr int kPeakChains = 12;

float multiply_add_chains(std::int64_t rounds) {
  Vec chains[kPeakChains];
  for (int i = 0; i < kPeakChains; ++i) chains[i] = Vec::set(static_cast<float>(i));
  const Vec factor = Vec::set(0.5F);
  const Vec term = Vec::set(1.0F);
  for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (auto& chain : chains) chain = Vec::fma(chain, factor, term);
  }
  Vec sum = chains[0];
  for (int i = 1; i < kPeakChains; ++i) sum = sum + chains[i];
  float values[Vec::kWidth];
  sum.store(values);
  return values[0];
}

}  // namespace
}  // namespace impart::nn

// What the programs share that train the zoo's "cnn" with another library, for versus_peers.py.
#pragma once

#include <sys/resource.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

namespace impart::peer {

inline constexpr int kSide = 28;
inline constexpr int kClasses = 10;
inline constexpr int kWarmUpSteps = 2;
inline constexpr double kLearningRate = 0.01;
inline constexpr double kMomentum = 0.9;

/// A batch of random images with random labels.
struct Batch {
  std::vector<std::vector<float>> images;  // each (28, 28)
  std::vector<unsigned long> labels;
};

inline Batch random_batch(int size) {
  Batch batch;
  std::mt19937 generator(7);
  std::normal_distribution<float> normal;
  for (int i = 0; i < size; ++i) {
    auto& image = batch.images.emplace_back(kSide * kSide);
    for (auto& pixel : image) pixel = normal(generator);
    batch.labels.push_back(generator() % kClasses);
  }
  return batch;
}

/// Times `step()` and prints one JSON object, as versus_torch.py --torch-only does.
template <class Step>
void measure(int batch, int steps, std::size_t parameters, const std::string& version, Step step) {
  for (int i = 0; i < kWarmUpSteps; ++i) step();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < steps; ++i) step();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf(
      "{\"model\": \"cnn\", \"batch\": %d, \"parameters\": %zu, \"samples_per_second\": %.3f, "
      "\"peak_rss_mb\": %.3f, \"version\": \"%s\"}\n",
      batch, parameters, batch * steps / seconds.count(), static_cast<double>(usage.ru_maxrss) / 1024,
      version.c_str());
}

struct Work {
  int batch = 0;
  int steps = 0;
};

/// The command line's "BATCH STEPS"; ends the program when it is something else.
inline Work read_work(int argc, char** argv) {
  const Work work{argc == 3 ? std::atoi(argv[1]) : 0, argc == 3 ? std::atoi(argv[2]) : 0};
  if (work.batch > 0 && work.steps > 0) return work;
  std::fprintf(stderr, "usage: %s BATCH STEPS\n", argv[0]);
  std::exit(2);
}

}  // namespace impart::peer

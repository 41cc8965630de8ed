// What networks allocate: as much as Network::memory_of says, and nothing once they are made.
//
// This program's own malloc counts. Sanitizers bring a malloc of theirs; under them these tests are skipped.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "impart/nn/network.hpp"
#include "impart/nn/zoo.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IMPART_COUNTS_MALLOC 0
#else
#define IMPART_COUNTS_MALLOC 1
#endif

namespace {

// Of the thread that is measured. Constant initialisation: malloc is called before anything else.
thread_local std::int64_t live_bytes = 0;
thread_local std::int64_t allocations = 0;  // while `watching`, without oneDNN's own
thread_local bool watching = false;

}  // namespace

#if IMPART_COUNTS_MALLOC

namespace {

// oneDNN makes lists of its own whenever it executes a primitive.
bool is_onednn(const void* code) {
  Dl_info info{};
  return dladdr(code, &info) != 0 && info.dli_fname != nullptr &&
         std::strstr(info.dli_fname, "libdnnl") != nullptr;
}

void* counted(void* made, const void* caller) {
  if (made == nullptr) return nullptr;
  if (watching && !is_onednn(caller)) ++allocations;
  live_bytes += static_cast<std::int64_t>(malloc_usable_size(made));
  return made;
}

void uncounted(void* gone) {
  if (gone != nullptr) live_bytes -= static_cast<std::int64_t>(malloc_usable_size(gone));
}

}  // namespace

extern "C" {
// glibc's own, which it keeps under these names for programs that bring a malloc.
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* old, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
void __libc_free(void* memory);

void* malloc(std::size_t size) { return counted(__libc_malloc(size), __builtin_return_address(0)); }
void* calloc(std::size_t count, std::size_t size) {
  return counted(__libc_calloc(count, size), __builtin_return_address(0));
}
void* realloc(void* old, std::size_t size) {
  uncounted(old);
  return counted(__libc_realloc(old, size), __builtin_return_address(0));
}
void* memalign(std::size_t alignment, std::size_t size) {
  return counted(__libc_memalign(alignment, size), __builtin_return_address(0));
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  return counted(__libc_memalign(alignment, size), __builtin_return_address(0));
}
int posix_memalign(void** made, std::size_t alignment, std::size_t size) {
  *made = counted(__libc_memalign(alignment, size), __builtin_return_address(0));
  return *made == nullptr ? ENOMEM : 0;
}
void free(void* memory) {
  uncounted(memory);
  __libc_free(memory);
}
}

// As libstdc++'s, but that they know who asked.
void* operator new(std::size_t size) {
  void* made = counted(__libc_malloc(size), __builtin_return_address(0));
  if (made == nullptr) throw std::bad_alloc();
  return made;
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  void* made =
      counted(__libc_memalign(static_cast<std::size_t>(alignment), size), __builtin_return_address(0));
  if (made == nullptr) throw std::bad_alloc();
  return made;
}
void operator delete(void* memory) noexcept { free(memory); }
void operator delete(void* memory, std::size_t) noexcept { free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { free(memory); }

#endif

namespace impart::nn {
namespace {

// A model and what one step needs.
struct Step {
  Step(const ModelSpec& spec, std::int64_t batch)
      : state(initial_state(spec, 7)),
        gradients(state.layout_ptr()),
        input(static_cast<std::size_t>(batch * spec.input.elements()), 1.0F) {
    for (std::int64_t i = 0; i < batch; ++i) ids.push_back(static_cast<std::uint64_t>(i));
    pass = {.training = true, .sample_ids = ids};
  }
  void run(Network& network) {
    network.load(state);
    const auto output = network.forward(pass, input);
    if (gradient.empty()) gradient.assign(output.begin(), output.end());
    network.backward(pass, gradient, gradients);
  }

  StateDict state, gradients;
  std::vector<float> input, gradient;
  std::vector<std::uint64_t> ids;
  Pass pass;
};

// Within 3%, and what the objects themselves and oneDNN's primitives take.
void expect_as_said(const ModelSpec& spec, std::int64_t batch, const NetworkOptions& options) {
  constexpr double kObjects = 0.15e6;
  { const Network first(spec, batch, options); }  // what the process keeps for all, whoever comes first
  const auto said = static_cast<double>(Network::memory_of(spec, batch, options).total());
  const auto before = live_bytes;
  const Network network(spec, batch, options);
  const auto taken = static_cast<double>(live_bytes - before);
  EXPECT_NEAR(taken, said, 0.03 * said + kObjects) << spec.name << ", batch " << batch;
}

class ZooAllocation : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!IMPART_COUNTS_MALLOC) GTEST_SKIP() << "a sanitizer's malloc does not count";
  }
};

TEST_P(ZooAllocation, NothingAfterTheFirstStep) {
  const auto spec = zoo_benchmark(GetParam());
  Network network(spec, 4, {.training = true, .shards = 2});
  Step step(spec, 4);
  step.run(network);
  allocations = 0;
  watching = true;
  step.run(network);
  watching = false;
  EXPECT_EQ(allocations, 0);
}

TEST_P(ZooAllocation, AsMuchAsItSaid) {
  for (const bool training : {true, false}) {
    for (const std::int64_t batch : {4, 16}) {
      const auto spec = zoo_benchmark(GetParam());
      expect_as_said(spec, batch, {.training = training, .shards = 2});
    }
  }
}

TEST(Allocation, OfDropoutAndPoolingIsSaid) {
  if (!IMPART_COUNTS_MALLOC) GTEST_SKIP() << "a sanitizer's malloc does not count";
  const auto layer = [](const char* kind, SettingTable settings = {}) {
    return LayerSpec{kind, "", settings};
  };
  ModelSpec mlp{"mlp", {784}, 10, {}};
  mlp.layers = {layer("dense", {{"units", std::int64_t{2000}}}), layer("dropout", {{"rate", 0.5}}),
                layer("dense", {{"units", std::int64_t{10}}})};
  ModelSpec pools{"pools", {16, 32, 32}, 10, {}};
  pools.layers = {layer("max_pool2d", {{"kernel", std::int64_t{2}}}),
                  layer("group_norm", {{"groups", std::int64_t{16}}}),
                  layer("adaptive_max_pool2d", {{"size", std::int64_t{4}}}), layer("flatten"),
                  layer("dense", {{"units", std::int64_t{10}}})};
  for (const auto* spec : {&mlp, &pools}) {
    expect_as_said(*spec, 128, {.training = true, .shards = 8});
    expect_as_said(*spec, 128, {});
  }
  // Masks lie beside the activations: at 128 x 2000 values, a megabyte.
  auto without = mlp;
  without.layers.erase(without.layers.begin() + 1);
  const auto difference = Network::memory_of(mlp, 128, {.training = true}).activations -
                          Network::memory_of(without, 128, {.training = true}).activations;
  EXPECT_GE(difference, 128 * 2000 * sizeof(float));
}

INSTANTIATE_TEST_SUITE_P(All, ZooAllocation, testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const auto name : zoo().names()) names.emplace_back(name);
                           return names;
                         }()),
                         [](const auto& model) { return model.param; });

}  // namespace
}  // namespace impart::nn

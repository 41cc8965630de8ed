#include "impart/app/process.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "impart/core/counted.hpp"
#include "impart/core/log.hpp"
#include "impart/nn/network.hpp"

namespace impart::app {

namespace {

std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set in a signal handler");

void request_stop(int signal) {
  // The user insists: no state is saved, but the last one is whole.
  if (signal == SIGINT && stop_requested.load()) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
  }
  stop_requested.store(true);
}

int topology(int cpu, const char* file, int otherwise) {
  std::ifstream stream("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/" + file);
  int value = otherwise;
  return stream >> value ? value : otherwise;
}

// (socket, core)
std::pair<int, int> core_of(int cpu) {
  return {topology(cpu, "physical_package_id", 0), topology(cpu, "core_id", cpu)};
}

int cores_of_node() {
  std::set<std::pair<int, int>> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (topology(cpu, "core_id", -1) >= 0) cores.insert(core_of(cpu));
  }
  return static_cast<int>(cores.size());
}

Cores cores_of_rank(const comm::Comm& comm) {
  cpu_set_t mine;
  CPU_ZERO(&mine);
  if (sched_getaffinity(0, sizeof(mine), &mine) != 0) return {};
  std::set<std::pair<int, int>> cores;
  const auto node = comm.split_by_node();
  constexpr auto kCpus = static_cast<std::size_t>(CPU_SETSIZE);
  std::vector<std::int32_t> own(kCpus);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mine)) continue;
    own[static_cast<std::size_t>(cpu)] = 1;
    cores.insert(core_of(cpu));
  }
  std::vector<std::int32_t> masks(kCpus * static_cast<std::size_t>(node.size()));
  node.gather_all<std::int32_t>(own, masks, "affinity masks");
  int sharing = 0;
  for (int rank = 0; rank < node.size(); ++rank) {
    const auto other = std::span(masks).subspan(kCpus * static_cast<std::size_t>(rank), kCpus);
    bool overlap = false;
    for (std::size_t cpu = 0; cpu < kCpus; ++cpu) overlap = overlap || (own[cpu] != 0 && other[cpu] != 0);
    sharing += overlap ? 1 : 0;
  }
  const int count = std::max(1, static_cast<int>(cores.size()));
  return {count, std::max(1, sharing), node.size(), std::max(count, cores_of_node())};
}

// One line for the job, of the lowest rank that has too few cores.
void warn_of_too_few_cores(const comm::Comm& comm, const Cores& cores, int threads) {
  const auto line = too_few_cores(cores, threads);
  int first = line.empty() ? comm.size() : comm.rank();
  comm.min_in_place(std::span(&first, 1), "binding");
  if (first == comm.rank()) log::warn(line);
}

// Kernels for other instruction sets may round differently.
void use_the_same_kernels(const comm::Comm& comm) {
  const int mine = nn::isa_level();
  int lowest = mine;
  comm.min_in_place(std::span(&lowest, 1), "instruction set");
  if (lowest < mine) nn::limit_isa(lowest);
}

}  // namespace

const std::atomic<bool>& stop_on_signals() {
  struct sigaction action = {};
  action.sa_handler = request_stop;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) sigaction(signal, &action, nullptr);
  return stop_requested;
}

std::string too_few_cores(const Cores& cores, int threads) {
  if (threads * cores.sharing <= cores.mine) return "";
  const auto binding = fmt::format(
      "with `mpirun --bind-to core --map-by slot:PE={0}` or `srun --cpu-bind=cores --cpus-per-task={0}`",
      threads);
  const int fitting = cores.of_node / threads;                // ranks
  const int fewer = std::max(1, cores.mine / cores.sharing);  // threads
  std::string advice;
  if (fitting >= cores.ranks) {
    advice = fmt::format("give each cores of its own, {}", binding);
  } else if (fitting > 0) {
    advice = fmt::format("start at most {} on a node of {}, {}", counted(fitting, "rank"),
                         counted(cores.of_node, "core"), binding);
  }
  if (fewer < threads) advice += fmt::format("{}lower --threads to {}", advice.empty() ? "" : ", or ", fewer);
  return fmt::format("{} of {} {} {}, which slows all of them: {}", counted(cores.sharing, "rank"),
                     counted(threads, "thread"), cores.sharing == 1 ? "has" : "share",
                     counted(cores.mine, "core"), advice);
}

int use_cores(const comm::Comm& comm, int threads) {
  use_the_same_kernels(comm);
  nn::use_one_kernel_thread();
  const auto cores = cores_of_rank(comm);
  if (threads <= 0) threads = std::max(1, cores.mine / cores.sharing);
  warn_of_too_few_cores(comm, cores, threads);
  return threads;
}

double peak_memory_mb() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024.0;  // Linux counts in KiB
}

}  // namespace impart::app

#include "impart/stages/process.hpp"

#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "impart/nn/network.hpp"

namespace impart::stages {

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

int cores_of_rank(const comm::Comm& comm) {
  cpu_set_t mine;
  CPU_ZERO(&mine);
  if (sched_getaffinity(0, sizeof(mine), &mine) != 0) return 1;
  std::set<std::pair<int, int>> cores;  // (socket, core)
  const auto node = comm.split_by_node();
  const auto row = static_cast<std::size_t>(CPU_SETSIZE);
  std::vector<std::int32_t> masks(row * static_cast<std::size_t>(node.size()));
  const auto own = std::span(masks).subspan(row * static_cast<std::size_t>(node.rank()), row);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mine)) continue;
    own[static_cast<std::size_t>(cpu)] = 1;
    cores.emplace(topology(cpu, "physical_package_id", 0), topology(cpu, "core_id", cpu));
  }
  const std::vector<std::int32_t> here(own.begin(), own.end());
  node.sum_in_place(std::span(masks), "affinity masks");
  int sharing = 0;
  for (int rank = 0; rank < node.size(); ++rank) {
    const auto other = std::span(masks).subspan(row * static_cast<std::size_t>(rank), row);
    bool overlap = false;
    for (std::size_t cpu = 0; cpu < row; ++cpu) overlap = overlap || (here[cpu] != 0 && other[cpu] != 0);
    sharing += overlap ? 1 : 0;
  }
  return std::max(1, static_cast<int>(cores.size()) / std::max(1, sharing));
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

int use_cores(const comm::Comm& comm, int threads) {
  nn::use_one_kernel_thread();
  const int cores = cores_of_rank(comm);
  return threads > 0 ? threads : cores;
}

double peak_memory_mb() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024.0;  // Linux counts in KiB
}

}  // namespace impart::stages

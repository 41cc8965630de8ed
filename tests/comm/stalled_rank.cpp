// The last rank does not come: it is stopped, dead, or busy. The watchdog of the others must name it, and end
// the job.
//
// Or it comes late, step after step, or rank 0 is stopped and woken in the sum, and nobody says anything.
//
// usage: stalled_rank busy|stopped|just_stopped|elsewhere|late|woken [nodes]
//   nodes: every rank is a node of its own

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <string_view>
#include <thread>

#include "impart/comm/comm.hpp"
#include "impart/comm/watch.hpp"
#include "impart/core/log.hpp"

int main(int argc, char** argv) {
  using namespace impart;
  const comm::MpiSession session(&argc, &argv);
  const auto world = comm::Comm::world();
  log::configure(world.rank(), world.size());
  const std::string_view how = argc > 1 ? argv[1] : "busy";
  const auto node = argc > 2 ? world.split(world.rank(), 0) : world.split_by_node();
  const auto pair = world.split(world.rank() / 2, world.rank());
  std::jthread waker;
  comm::Watchdog watchdog(world, node, {.warning = 1.5, .abort = 9});
  comm::enter_stage("base");
  const auto processes = world.gather_all<std::int32_t>(getpid(), "processes");
  if (how == "just_stopped" || how == "woken") watchdog.set_limits({.warning = 3.5, .abort = 9});
  world.barrier();
  comm::enter_step(41);
  if (world.rank() == world.size() - 1) {
    if (how == "stopped") {
      std::this_thread::sleep_for(std::chrono::milliseconds(2500));  // so that its place is known elsewhere
      raise(SIGSTOP);
    }
    if (how == "just_stopped") {
      std::this_thread::sleep_for(std::chrono::milliseconds(1200));
      raise(SIGSTOP);
    }
    if (how == "woken") {
      std::this_thread::sleep_for(std::chrono::milliseconds(500));
      kill(processes[0], SIGSTOP);
      waker = std::jthread([first = processes[0]] {
        std::this_thread::sleep_for(std::chrono::milliseconds(4200));
        kill(first, SIGCONT);
      });
    }
    if (how == "elsewhere") pair.barrier();  // where its partner does not come
    for (int step = 0; step < 12 && how == "late"; ++step) {
      std::this_thread::sleep_for(std::chrono::milliseconds(500));
      comm::enter_step(step);
    }
    if (how != "late" && how != "woken") std::this_thread::sleep_for(std::chrono::seconds(60));
  }
  comm::enter_step(42);
  int value = 1;
  world.sum_in_place(std::span(&value, 1), "gradients");
  std::puts("passed the sum");
  return 0;
}

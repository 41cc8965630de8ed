#include "impart/core/worker_team.hpp"

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace impart {

struct WorkerTeam::Impl {
  explicit Impl(int size) : errors(static_cast<std::size_t>(size)) {
    for (int worker = 1; worker < size; ++worker) threads.emplace_back([this, worker] { serve(worker); });
  }

  void call(int worker) {
    try {
      (*work)(worker);
    } catch (...) {
      errors[static_cast<std::size_t>(worker)] = std::current_exception();
    }
  }

  void serve(int worker) {
    std::uint64_t seen = 0;
    for (;;) {
      {
        std::unique_lock lock(mutex);
        started.wait(lock, [&] { return round != seen || ending; });
        if (ending) return;
        seen = round;
      }
      call(worker);
      const std::lock_guard lock(mutex);
      if (--busy == 0) finished.notify_one();
    }
  }

  std::mutex mutex;
  std::condition_variable started;
  std::condition_variable finished;
  const std::function<void(int)>* work = nullptr;
  std::uint64_t round = 0;
  std::size_t busy = 0;
  bool ending = false;
  std::vector<std::exception_ptr> errors;
  std::vector<std::thread> threads;
};

WorkerTeam::WorkerTeam(int size) : impl_(std::make_unique<Impl>(size)) {}

WorkerTeam::~WorkerTeam() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->ending = true;
  }
  impl_->started.notify_all();
  for (auto& thread : impl_->threads) thread.join();
}

int WorkerTeam::size() const noexcept { return static_cast<int>(impl_->errors.size()); }

void WorkerTeam::run(const std::function<void(int worker)>& work) {
  auto& team = *impl_;
  {
    const std::lock_guard lock(team.mutex);
    team.work = &work;
    team.busy = team.threads.size();
    ++team.round;
  }
  team.started.notify_all();
  team.call(0);
  {
    std::unique_lock lock(team.mutex);
    team.finished.wait(lock, [&] { return team.busy == 0; });
  }
  for (auto& error : team.errors) {
    if (error) {
      const auto first = error;
      for (auto& each : team.errors) each = nullptr;
      std::rethrow_exception(first);
    }
  }
}

}  // namespace impart

// WorkerTeam: a fixed set of threads that do one thing together and wait for each other.
#pragma once

#include <functional>
#include <memory>

namespace impart {

/// `size` workers; worker 0 is the calling thread, the others are threads that live as long as the team.
/// Used by one thread at a time.
class WorkerTeam {
 public:
  explicit WorkerTeam(int size);
  WorkerTeam(const WorkerTeam&) = delete;
  WorkerTeam& operator=(const WorkerTeam&) = delete;
  ~WorkerTeam();

  [[nodiscard]] int size() const noexcept;
  /// Runs `work(worker)` on every worker and returns when all are done. Of the exceptions thrown, that of the
  /// lowest worker is thrown again here.
  void run(const std::function<void(int worker)>& work);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace impart

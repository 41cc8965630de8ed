#include <fmt/format.h>
#include <hdf5.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <system_error>

#include "impart/core/error.hpp"
#include "impart/core/log.hpp"
#include "impart/io/checkpoint.hpp"
#include "io/checkpoint_format.hpp"

namespace impart::io {

namespace {

namespace fs = std::filesystem;

// No write takes this long: what is older was left by a process that died while it wrote.
constexpr std::chrono::hours kAbandoned{1};

bool is_abandoned(const fs::directory_entry& entry) {
  std::error_code failure;
  const auto changed = entry.last_write_time(failure);
  return !failure && is_temporary(entry.path()) && fs::file_time_type::clock::now() - changed > kAbandoned;
}

// Removes what is older than the newest `keep`; `written` stays whatever its step, for a run that was started
// again from an earlier step writes below what it finds. A file that cannot be removed costs space only.
void prune(const fs::path& written, int keep) {
  std::vector<std::pair<std::int64_t, fs::path>> others;
  std::vector<fs::path> unwanted;
  std::error_code failure;
  fs::directory_iterator entry(written.parent_path(), failure);
  for (; !failure && entry != fs::directory_iterator(); entry.increment(failure)) {
    const auto step = step_of(entry->path());
    if (step && entry->path().filename() != written.filename()) others.emplace_back(*step, entry->path());
    if (is_abandoned(*entry)) unwanted.push_back(entry->path());
  }
  std::sort(others.rbegin(), others.rend());
  for (auto i = static_cast<std::size_t>(keep) - 1; i < others.size(); ++i)
    unwanted.push_back(others[i].second);
  for (const auto& path : unwanted) {
    if (!failure) fs::remove(path, failure);
  }
  if (failure) {
    log::warn(fmt::format("{}: cannot remove old checkpoints: {}", written.parent_path().string(),
                          failure.message()));
  }
}

void write_step(const fs::path& path, Checkpoint& snapshot, int keep) {
  std::error_code failure;
  fs::create_directories(path.parent_path(), failure);
  if (failure) {
    throw Error("cannot create the directory").at(path.parent_path().string()).got(failure.message());
  }
  write_checkpoint(path, snapshot);
  prune(path, keep);
}

}  // namespace

struct CheckpointWriter::Impl {
  int keep = 2;
  std::future<void> writing;

  void wait() {
    if (writing.valid()) writing.get();
  }
};

CheckpointWriter::CheckpointWriter(int keep) : impl_(std::make_unique<Impl>()) {
  if (keep < 1) throw Error("too few checkpoints to keep").expected("at least 1").got(std::to_string(keep));
  hbool_t is_safe = false;
  H5is_library_threadsafe(&is_safe);
  if (!is_safe) {
    throw Error("this HDF5 library cannot be used from two threads")
        .hint("install one that was configured with --enable-threadsafe");
  }
  impl_->keep = keep;
}

CheckpointWriter::~CheckpointWriter() {
  try {
    impl_->wait();
  } catch (const std::exception& error) {
    log::error(error.what());
  }
}

void CheckpointWriter::submit(const fs::path& directory, Checkpoint snapshot) {
  impl_->wait();
  if (!snapshot.progress)
    throw Error("a checkpoint to continue from needs its progress").at(directory.string());
  auto path = directory / step_file_name(snapshot.progress->step);
  impl_->writing = std::async(
      std::launch::async, [path = std::move(path), keep = impl_->keep, held = std::move(snapshot)]() mutable {
        write_step(path, held, keep);
      });
}

void CheckpointWriter::finish() { impl_->wait(); }

}  // namespace impart::io

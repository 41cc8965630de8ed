#include "impart/comm/comm.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <limits>
#include <thread>
#include <utility>

#include "comm/board.hpp"
#include "impart/comm/watch.hpp"
#include "impart/core/error.hpp"
#include "impart/core/log.hpp"

namespace impart::comm {

namespace {

// Of who sleeps while others work: from one look to the next.
constexpr std::chrono::microseconds kShortestPause{20};
constexpr std::chrono::microseconds kLongestPause{2000};

// MPI 3 counts are int; a longer message would wrap silently.
int mpi_count(std::size_t n, const char* hint) {
  if (n > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    log::error(std::string(hint) + ": a message of " + std::to_string(n) +
               " values exceeds MPI's limit of 2^31-1");
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  return static_cast<int>(n);
}

// All ranks make the same communicators in the same order (splitmix64, Steele et al. 2014).
std::uint64_t child_id(std::uint64_t parent, std::uint64_t number, std::uint64_t color) {
  std::uint64_t id = 0;
  for (const auto part : {parent, number, color}) {
    id += part + 0x9e3779b97f4a7c15;
    id = (id ^ (id >> 30)) * 0xbf58476d1ce4e5b9;
    id = (id ^ (id >> 27)) * 0x94d049bb133111eb;
    id ^= id >> 31;
  }
  return id == 0 ? 1 : id;
}

template <class T>
void all_reduce(std::span<T> values, MPI_Op op, const Comm& comm, const char* hint) {
  if (comm.size() == 1) return;
  const Waiting waiting(comm, hint);
  MPI_Allreduce(MPI_IN_PLACE, values.data(), mpi_count(values.size(), hint), MpiType<T>::get(), op,
                comm.mpi());
}

}  // namespace

MpiSession::MpiSession(int* argc, char*** argv) {
  int provided = 0;
  // Beside the main thread the watchdog's calls MPI; the loader's and the checkpoint's threads do not.
  MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided);
}

MpiSession::~MpiSession() {
  if (std::uncaught_exceptions() > 0) {
    MPI_Abort(MPI_COMM_WORLD, 1);
  } else {
    MPI_Finalize();
  }
}

Comm::Comm(MPI_Comm comm, std::uint64_t id) : comm_(comm), id_(id) {
  MPI_Comm_rank(comm_, &rank_);
  MPI_Comm_size(comm_, &size_);
  if (size_ > 1) count_calls_on(id_);
}

Comm Comm::world() {
  static std::uint64_t worlds = 0;
  MPI_Comm copy = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &copy);
  return {copy, child_id(0, ++worlds, 0)};
}

Comm Comm::self() {
  Comm alone;
  alone.comm_ = MPI_COMM_SELF;
  return alone;
}

Comm::Comm(Comm&& other) noexcept { *this = std::move(other); }

Comm& Comm::operator=(Comm&& other) noexcept {
  std::swap(comm_, other.comm_);
  std::swap(id_, other.id_);
  std::swap(children_, other.children_);
  std::swap(rank_, other.rank_);
  std::swap(size_, other.size_);
  return *this;
}

Comm::~Comm() {
  if (id_ == 0) return;
  forget_calls_on(id_);
  // Freeing is collective: while an exception is in flight the other ranks may never come.
  if (std::uncaught_exceptions() == 0) MPI_Comm_free(&comm_);
}

Comm Comm::split(int color, int key) const {
  const Waiting waiting(*this, "split");
  MPI_Comm part = MPI_COMM_NULL;
  MPI_Comm_split(comm_, color, key, &part);
  return {part, child_id(id_, ++children_, static_cast<std::uint64_t>(color))};
}

Comm Comm::split_by_node() const {
  const Waiting waiting(*this, "split by node");
  MPI_Comm node = MPI_COMM_NULL;
  MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node);
  int first = rank_;
  MPI_Bcast(&first, 1, MPI_INT, 0, node);
  return {node, child_id(id_, ++children_, static_cast<std::uint64_t>(first))};
}

void Comm::barrier() const {
  if (size_ == 1) return;
  const Waiting waiting(*this, "barrier");
  MPI_Barrier(comm_);
}

void Comm::barrier_asleep(const char* hint) const {
  if (size_ == 1) return;
  const Waiting waiting(*this, hint);
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Ibarrier(comm_, &request);
  int done = 0;
  for (auto pause = kShortestPause; MPI_Test(&request, &done, MPI_STATUS_IGNORE), done == 0;) {
    std::this_thread::sleep_for(pause);
    pause = std::min(2 * pause, kLongestPause);
  }
}

template <class T>
void Comm::sum_in_place(std::span<T> values, const char* hint) const {
  all_reduce(values, MPI_SUM, *this, hint);
}

template <class T>
void Comm::max_in_place(std::span<T> values, const char* hint) const {
  all_reduce(values, MPI_MAX, *this, hint);
}

template <class T>
void Comm::min_in_place(std::span<T> values, const char* hint) const {
  all_reduce(values, MPI_MIN, *this, hint);
}

template <class T>
void Comm::broadcast(std::span<T> values, int root, const char* hint) const {
  if (size_ == 1) return;
  const Waiting waiting(*this, hint);
  MPI_Bcast(values.data(), mpi_count(values.size(), hint), MpiType<T>::get(), root, comm_);
}

void Comm::broadcast(std::string& text, int root, const char* hint) const {
  if (size_ == 1) return;
  auto length = static_cast<std::uint64_t>(text.size());
  broadcast(std::span(&length, 1), root, hint);
  text.resize(length);
  const Waiting waiting(*this, hint);
  MPI_Bcast(text.data(), mpi_count(text.size(), hint), MPI_CHAR, root, comm_);
}

template <class T>
void Comm::gather_all(std::span<const T> mine, std::span<T> all, const char* hint) const {
  if (size_ == 1) {
    std::copy(mine.begin(), mine.end(), all.begin());
    return;
  }
  const int count = mpi_count(mine.size(), hint);
  const Waiting waiting(*this, hint);
  MPI_Allgather(mine.data(), count, MpiType<T>::get(), all.data(), count, MpiType<T>::get(), comm_);
}

template <class T>
std::vector<T> Comm::gather_all(T mine, const char* hint) const {
  std::vector<T> all(static_cast<std::size_t>(size_));
  gather_all(std::span<const T>(&mine, 1), std::span(all), hint);
  return all;
}

template <class T>
MPI_Request Comm::begin_send(std::span<const T> values, int peer, int tag) const {
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Isend(values.data(), mpi_count(values.size(), "send"), MpiType<T>::get(), peer, tag, comm_, &request);
  return request;
}

template <class T>
MPI_Request Comm::begin_receive(std::span<T> values, int peer, int tag) const {
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Irecv(values.data(), mpi_count(values.size(), "receive"), MpiType<T>::get(), peer, tag, comm_,
            &request);
  return request;
}

MPI_Request Comm::begin_sum(std::span<float> values) const {
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Iallreduce(MPI_IN_PLACE, values.data(), mpi_count(values.size(), "sum"), MPI_FLOAT, MPI_SUM, comm_,
                 &request);
  return request;
}

std::vector<std::string> Comm::gather_strings(const std::string& mine, const char* hint) const {
  if (size_ == 1) return {mine};
  const Waiting waiting(*this, hint);
  const int length = mpi_count(mine.size(), hint);
  std::vector<int> lengths(is_root() ? static_cast<std::size_t>(size_) : 0);
  MPI_Gather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, 0, comm_);
  std::vector<int> offsets;
  std::size_t total = 0;
  for (const int n : lengths) {
    offsets.push_back(mpi_count(total, hint));
    total += static_cast<std::size_t>(n);
  }
  std::string all(total, '\0');
  MPI_Gatherv(mine.data(), length, MPI_CHAR, all.data(), lengths.data(), offsets.data(), MPI_CHAR, 0, comm_);
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    texts.push_back(all.substr(static_cast<std::size_t>(offsets[i]), static_cast<std::size_t>(lengths[i])));
  }
  return texts;
}

#define IMPART_INSTANTIATE(T)                                                             \
  template void Comm::sum_in_place<T>(std::span<T>, const char*) const;                   \
  template void Comm::max_in_place<T>(std::span<T>, const char*) const;                   \
  template void Comm::min_in_place<T>(std::span<T>, const char*) const;                   \
  template void Comm::broadcast<T>(std::span<T>, int, const char*) const;                 \
  template void Comm::gather_all<T>(std::span<const T>, std::span<T>, const char*) const; \
  template std::vector<T> Comm::gather_all<T>(T, const char*) const;                      \
  template MPI_Request Comm::begin_send<T>(std::span<const T>, int, int) const;           \
  template MPI_Request Comm::begin_receive<T>(std::span<T>, int, int) const
IMPART_INSTANTIATE(float);
IMPART_INSTANTIATE(double);
IMPART_INSTANTIATE(std::int32_t);
IMPART_INSTANTIATE(std::int64_t);
IMPART_INSTANTIATE(std::uint64_t);
#undef IMPART_INSTANTIATE
template void Comm::broadcast<std::byte>(std::span<std::byte>, int, const char*) const;

void agree(const Comm& comm, const std::string& what, const std::function<void()>& work) {
  std::string message;
  auto kind = ErrorKind::kRun;
  bool failed = false;
  try {
    work();
  } catch (const Error& e) {
    failed = true;
    message = e.what();
    kind = e.kind();
  } catch (const std::exception& e) {
    failed = true;
    message = e.what();
  } catch (...) {
    failed = true;  // whatever it was, the other ranks must not wait for this one
    message = "an unknown exception";
  }
  const Waiting waiting(comm, what.c_str());
  int lowest = failed ? comm.rank() : comm.size();
  comm.min_in_place(std::span(&lowest, 1), "agree");
  if (lowest == comm.size()) return;
  comm.broadcast(message, lowest, "agree");
  auto usage = static_cast<std::int32_t>(kind == ErrorKind::kUsage);
  comm.broadcast(std::span(&usage, 1), lowest, "agree");
  throw Error(message, usage != 0 ? ErrorKind::kUsage : ErrorKind::kRun).at(what).collective();
}

void work_alone(const Comm& comm, int worker, const std::string& what, const std::function<void()>& work) {
  std::exception_ptr failure;
  if (comm.rank() == worker) {
    try {
      work();
    } catch (...) {
      failure = std::current_exception();
    }
  }
  comm.barrier_asleep(what.c_str());
  agree(comm, what, [&] {
    if (failure) std::rethrow_exception(failure);
  });
}

}  // namespace impart::comm

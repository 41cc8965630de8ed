// MpiSession and Comm: MPI's life, and the few collectives that impart speaks.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace impart::comm {

/// Owns MPI_Init and MPI_Finalize. Declare it in `main` before the `try`, so that handlers can still speak.
/// It does not finalize while an exception is in flight: the other ranks could wait for ever; it aborts
/// instead.
class MpiSession {
 public:
  MpiSession(int* argc, char*** argv);
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
};

/// Maps a C++ type to MPI's. An unsupported type does not compile.
template <class T>
struct MpiType;

#define IMPART_MPI_TYPE(cpp, mpi)             \
  template <>                                 \
  struct MpiType<cpp> {                       \
    static MPI_Datatype get() { return mpi; } \
  }
IMPART_MPI_TYPE(float, MPI_FLOAT);
IMPART_MPI_TYPE(double, MPI_DOUBLE);
IMPART_MPI_TYPE(std::int32_t, MPI_INT32_T);
IMPART_MPI_TYPE(std::int64_t, MPI_INT64_T);
IMPART_MPI_TYPE(std::uint64_t, MPI_UINT64_T);
IMPART_MPI_TYPE(std::byte, MPI_BYTE);
#undef IMPART_MPI_TYPE

/// A group of ranks. Move-only; made by `world`, `self`, `split` or `split_by_node`; borrowed as `const
/// Comm&`.
///
/// Every method but `rank`, `size` and `is_root` is collective: all ranks of the group call it with the same
/// sizes. `hint` names the call in error messages. A failing MPI call ends all ranks (MPI's error handler
/// stays fatal).
class Comm {
 public:
  static Comm world();  ///< a duplicate of MPI_COMM_WORLD, so that a library's messages cannot mix with ours
  /// This rank alone. Its methods make no MPI calls, so that any thread may use one, even without an
  /// MpiSession.
  static Comm self();

  Comm(Comm&& other) noexcept;
  Comm& operator=(Comm&& other) noexcept;
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;
  ~Comm();

  [[nodiscard]] Comm split(int color, int key) const;
  [[nodiscard]] Comm split_by_node() const;  ///< the ranks that share this rank's memory

  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int size() const noexcept { return size_; }
  [[nodiscard]] bool is_root() const noexcept { return rank_ == 0; }
  [[nodiscard]] MPI_Comm mpi() const noexcept { return comm_; }
  /// The same number on all its ranks, and another for each communicator; 0 for `self`.
  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }

  void barrier() const;
  /// A barrier before which some ranks work for long: those that wait sleep, and look every few milliseconds.
  void barrier_asleep(const char* hint) const;

  /// Element-wise sum, on every rank. The order of summation is MPI's: use it for integers, or where at most
  /// one rank has a non-zero value in each place; else see TreeReducer.
  template <class T>
  void sum_in_place(std::span<T> values, const char* hint) const;
  template <class T>
  void max_in_place(std::span<T> values, const char* hint) const;
  template <class T>
  void min_in_place(std::span<T> values, const char* hint) const;
  /// `values` of rank `root` to all.
  template <class T>
  void broadcast(std::span<T> values, int root, const char* hint) const;
  void broadcast(std::string& text, int root, const char* hint) const;
  /// `mine` of all ranks, equally long, in the order of the ranks.
  template <class T>
  void gather_all(std::span<const T> mine, std::span<T> all, const char* hint) const;
  /// The same for one value of each rank.
  template <class T>
  [[nodiscard]] std::vector<T> gather_all(T mine, const char* hint) const;
  /// Starts sending to, or receiving from `peer`, in the order of the calls with that `tag`. The values are
  /// MPI's until the request is complete.
  template <class T>
  [[nodiscard]] MPI_Request begin_send(std::span<const T> values, int peer, int tag) const;
  template <class T>
  [[nodiscard]] MPI_Request begin_receive(std::span<T> values, int peer, int tag) const;
  /// Starts summing over the ranks, in MPI's order. Collective, in the same order everywhere.
  [[nodiscard]] MPI_Request begin_sum(std::span<float> values) const;
  /// One text from each rank, on the root; empty elsewhere.
  [[nodiscard]] std::vector<std::string> gather_strings(const std::string& mine, const char* hint) const;

 private:
  Comm() = default;
  Comm(MPI_Comm comm, std::uint64_t id);

  MPI_Comm comm_ = MPI_COMM_NULL;
  std::uint64_t id_ = 0;                // 0: not ours to free
  mutable std::uint64_t children_ = 0;  // how many were split off
  int rank_ = 0;
  int size_ = 1;
};

/// Runs `work`, which may fail on some ranks and not on others, and brings all ranks to one result: either it
/// succeeded everywhere, or every rank throws the Error of the lowest rank that failed. `work` must not
/// communicate.
///
/// `what` is said in front of the message: "reading dataset mnist". (Decision 4.)
void agree(const Comm& comm, const std::string& what, const std::function<void()>& work);

/// The same for work that rank `worker` does alone, and that takes long: the others sleep meanwhile.
void work_alone(const Comm& comm, int worker, const std::string& what, const std::function<void()>& work);

}  // namespace impart::comm

#include "train/solvers/linear_system.hpp"

#include <fmt/format.h>

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>

namespace impart::train {

namespace {

using Eigen::Index;
using Eigen::MatrixXd;

// Of a matrix with a unit diagonal: the square of a row's distance from all others, below which rounding (of
// values that were float32 once) has had its part in it.
constexpr double kSingular = 1e-12;
constexpr double kNearlySingular = 1e-9;

std::vector<Dependence> dependences(const Eigen::ColPivHouseholderQR<MatrixXd>& qr) {
  const Index n = qr.cols();
  const Index rank = qr.rank();
  const auto& order = qr.colsPermutation().indices();
  const MatrixXd upper = qr.matrixR().topLeftCorner(rank, n);
  const MatrixXd shares =
      upper.leftCols(rank).triangularView<Eigen::Upper>().solve(upper.rightCols(n - rank));
  std::vector<Dependence> result;
  for (Index j = 0; j < n - rank; ++j) {
    Dependence dependence{static_cast<std::size_t>(order[rank + j]), {}};
    for (Index i = 0; i < rank; ++i) {
      if (std::abs(shares(i, j)) > 1e-4) dependence.on.push_back(static_cast<std::size_t>(order[i]));
    }
    std::ranges::sort(dependence.on);
    result.push_back(std::move(dependence));
  }
  std::ranges::sort(result, {}, &Dependence::row);
  return result;
}

std::string column_list(const std::vector<std::size_t>& columns) {
  constexpr std::size_t kShown = 4;
  std::string text;
  for (std::size_t i = 0; i < std::min(kShown, columns.size()); ++i)
    text += fmt::format("{}{}", i == 0 ? "" : ", ", columns[i]);
  return columns.size() > kShown ? text + " ..." : text;
}

}  // namespace

std::vector<Dependence> solve_symmetric(std::span<double> matrix, std::span<double> values) {
  const auto n = static_cast<Index>(std::llround(std::sqrt(static_cast<double>(matrix.size()))));
  Eigen::Map<MatrixXd> a(matrix.data(), n, n);
  Eigen::Map<MatrixXd> b(values.data(), n, static_cast<Index>(values.size()) / n);
  const double largest = a.diagonal().maxCoeff();
  Eigen::VectorXd scale(n);
  std::vector<Dependence> zeros;
  for (Index i = 0; i < n; ++i) {
    // A row of nothing but rounding is zero.
    const bool zero = !(a(i, i) > largest * 1e-30);
    scale[i] = zero ? 0 : 1 / std::sqrt(a(i, i));
    if (zero) zeros.push_back({static_cast<std::size_t>(i), {}});
  }
  if (!zeros.empty()) return zeros;
  MatrixXd scaled = a.selfadjointView<Eigen::Lower>();
  scaled = scale.asDiagonal() * scaled * scale.asDiagonal();
  b = scale.asDiagonal() * b;
  const Eigen::LLT<MatrixXd> cholesky(scaled);
  const bool good = cholesky.info() == Eigen::Success &&
                    cholesky.matrixLLT().diagonal().array().square().minCoeff() > kNearlySingular;
  if (good) {
    b = cholesky.solve(b).eval();
  } else {
    Eigen::ColPivHouseholderQR<MatrixXd> qr(scaled);
    qr.setThreshold(kSingular);
    if (qr.rank() < n) return dependences(qr);
    b = qr.solve(b).eval();
  }
  b = scale.asDiagonal() * b;
  return {};
}

std::string describe_dependences(const std::vector<Dependence>& all, bool centred) {
  constexpr std::size_t kShown = 5;
  std::string text;
  for (std::size_t i = 0; i < std::min(kShown, all.size()); ++i) {
    const auto& [column, on] = all[i];
    text += i == 0 ? "" : "; ";
    text += on.empty() ? fmt::format("column {} is {}", column, centred ? "constant" : "zero")
                       : fmt::format("column {} depends on {}", column, column_list(on));
  }
  return all.size() > kShown ? fmt::format("{}; and {} more", text, all.size() - kShown) : text;
}

}  // namespace impart::train

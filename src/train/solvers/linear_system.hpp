// Symmetric positive definite systems, and what makes one of them singular.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace impart::train {

/// A row of a matrix that is a combination of others: of none, when it is zero.
struct Dependence {
  std::size_t row = 0;
  std::vector<std::size_t> on;
};

/// Solves `matrix` (n, n), symmetric, of which the lower triangle is read, for the columns of `values` (n,
/// columns), in place. Both are column-major. By Cholesky's decomposition of the matrix scaled to a unit
/// diagonal; when that is nearly singular, by a QR decomposition with column pivots, which tells its rank.
/// Returns the rows that depend on others when it is singular; `values` is then undefined.
std::vector<Dependence> solve_symmetric(std::span<double> matrix, std::span<double> values);

/// "column 3 is constant; column 7 depends on 1, 2; and 4 more". `centred`: the matrix is of products of
/// columns less their means; otherwise a column on its own is zero.
std::string describe_dependences(const std::vector<Dependence>& all, bool centred);

}  // namespace impart::train

// A curve of any length in a bounded number of points: every n-th value, with n doubling whenever
// the points grow too many. What is kept is exact.
#pragma once

#include <cstdint>
#include <vector>

#include "formats/wire/workload_layout.h"

namespace alloctape::converter {

class Curve {
 public:
  static constexpr std::size_t kMostPoints = 4096;

  // True when the value that comes now is to be added.
  bool due() {
    if (--until_next_ != 0) return false;
    until_next_ = stride_;
    return true;
  }
  void add(wire::CurvePoint point) {
    if (points_.size() == kMostPoints) thin_out();
    points_.push_back(point);
  }
  const std::vector<wire::CurvePoint>& points() const { return points_; }

 private:
  void thin_out() {
    for (std::size_t i = 0; i < kMostPoints / 2; ++i) points_[i] = points_[i * 2 + 1];
    points_.resize(kMostPoints / 2);
    stride_ *= 2;
    until_next_ = stride_;
  }

  std::vector<wire::CurvePoint> points_;
  std::uint64_t stride_ = 16, until_next_ = 16;
};

}  // namespace alloctape::converter

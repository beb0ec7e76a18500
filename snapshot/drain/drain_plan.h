// DrainPlan: what a drain would read, found by metadata alone. Reads no data, stores nothing.
#pragma once

#include <cstdint>

#include "snapshot/drain/drain.h"

namespace nodesnap {

struct DrainPlan {
    std::uint64_t files = 0;  // that are new, or may have changed
    std::uint64_t bytes = 0;  // of their data, as far as it is to be read
};

// As run_drain() would go about it: `source` may be the live directory; what is changed meanwhile may be counted or not. A file that can't
// be opened isn't counted.
DrainPlan plan_drain(int source, const Repository& repository, const ExcludeRules& excludes, const DrainParent* parent,
                     const DrainOptions& options, Progress& progress, Report& report);

}  // namespace nodesnap

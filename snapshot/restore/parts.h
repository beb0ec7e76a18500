// RestoreParts: what of a file's map is to be written, in order: all of it, or only where it differs from what the file is known to hold.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "snapshot/repository/map_diff.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

// A part of a run.
struct RunPart {
    Run run;
    std::uint64_t from = 0;  // from the run's beginning
    std::uint64_t length = 0;
    std::uint64_t begin() const { return run.offset + from; }  // in the file
};

// One thread. `wanted` and `held` must outlive it. Memory: a map's cursor, or one for each of two maps.
class RestoreParts {
public:
    // All from file offset `start` on.
    RestoreParts(const Repository& repository, const Inode& wanted, std::uint64_t start);
    // What differs from `held`. Holes aren't told: see shape.h.
    RestoreParts(const Repository& repository, const Inode& wanted, const Inode& held);
    bool next(RunPart& part);  // false at the end

private:
    struct Difference {
        Difference(const Repository& repository, const Inode& wanted, const Inode& held)
            : places(repository.packs()), maps(repository.nodes(), places, held, wanted) {}
        RunPlaces places;
        MapDiff maps;
    };
    std::uint64_t start_ = 0;
    std::unique_ptr<MapCursor> all_;
    std::unique_ptr<Difference> difference_;
};

// Bytes of data; holes and unwritten space don't count. `told` is called with each range.
using DataPart = std::function<void(std::uint64_t begin, std::uint64_t length)>;
std::uint64_t data_in(RestoreParts parts, const DataPart& told = {});
// A regular file's, wherever it is kept; ranges are told where that is in packs.
std::uint64_t data_of(const Repository& repository, const Inode& inode, const DataPart& part = {});

}  // namespace nodesnap

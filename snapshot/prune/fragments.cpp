#include "snapshot/prune/fragments.h"

#include <algorithm>
#include <numeric>

#include "platform/interrupt.h"
#include "snapshot/repository/pack.h"

namespace nodesnap {
namespace {

// A restore of a file all of whose windows hold so many takes up to twice as long as that of a fresh one. See docs/design.md, "Forgetting".
constexpr std::uint32_t kRunsLimit = 64;
constexpr std::uint32_t kLeastGain = 4;     // times fewer ranges than runs
constexpr std::size_t kRangesLimit = 4096;  // in a window; there is nothing to gain where there are so many

class WindowScan {
public:
    explicit WindowScan(const std::function<void(const Fragment&)>& each) : each_(each) {}

    void add(const Run& run) {
        const std::uint64_t first = run.offset / kSegmentLimit;
        const std::uint64_t last = (run.end() - 1) / kSegmentLimit;
        add_part(first, run.offset, std::min(run.end(), (first + 1) * kSegmentLimit));
        if (last != first) {  // what lies between is all one run's
            add_part(last, last * kSegmentLimit, run.end());
        }
    }

    void finish() {
        if (window_.runs > kRunsLimit && window_.ranges.size() < kRangesLimit && window_.ranges.size() * kLeastGain <= window_.runs) {
            each_(window_);
        }
        window_ = {};
    }

private:
    void add_part(std::uint64_t number, std::uint64_t begin, std::uint64_t end) {
        if (number != number_) {
            finish();
            number_ = number;
        }
        ++window_.runs;
        auto& ranges = window_.ranges;
        if (!ranges.empty() && ranges.back().offset + ranges.back().length == begin) {
            ranges.back().length += static_cast<std::uint32_t>(end - begin);
        } else if (ranges.size() < kRangesLimit) {
            ranges.push_back({begin, static_cast<std::uint32_t>(end - begin)});
        }
    }

    const std::function<void(const Fragment&)>& each_;
    std::uint64_t number_ = 0;
    Fragment window_;
};

}  // namespace

std::uint64_t Fragment::bytes() const {
    return std::accumulate(ranges.begin(), ranges.end(), std::uint64_t{0},
                           [](auto sum, const DataRange& range) { return sum + range.length; });
}

void for_each_fragment(NodeReader& nodes, const Inode& inode, const std::function<void(const Fragment&)>& each) {
    MapCursor cursor(nodes, inode);
    WindowScan scan(each);
    for (Run run; cursor.next(run);) {
        throw_if_interrupted();
        if (run.flags == Run::kNone) {
            scan.add(run);
        }
    }
    scan.finish();
}

}  // namespace nodesnap

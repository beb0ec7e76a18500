#include "snapshot/cluster/shared_cap.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

namespace nodesnap::cluster {
namespace {

constexpr std::uint64_t kLeast = 4096;

}  // namespace

std::vector<std::uint64_t> share_cap(std::uint64_t cap, const std::vector<std::uint64_t>& used) {
    std::vector<std::size_t> order(used.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](std::size_t one, std::size_t other) { return used[one] < used[other]; });
    std::vector<std::uint64_t> shares(used.size());
    // From the most modest on: what one doesn't want is the others'.
    for (std::size_t i = 0; i < order.size(); ++i) {
        const std::uint64_t even = cap / (order.size() - i);
        const std::uint64_t wanted = used[order[i]] + used[order[i]] / 5 + kLeast;
        // The last has all that is left: else nobody could ever use it.
        const std::uint64_t share = std::max(std::min(i + 1 == order.size() ? even : wanted, even), std::min(kLeast, cap));
        shares[order[i]] = std::max<std::uint64_t>(share, 1);
        cap -= std::min(share, cap);
    }
    return shares;
}

}  // namespace nodesnap::cluster

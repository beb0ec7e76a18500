#include "snapshot/drain/extent_changes.h"

#include <algorithm>
#include <utility>

#include "platform/error.h"
#include "snapshot/backend/same_blocks.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kEnd = std::uint64_t{1} << 62;  // behind all that a file can hold
constexpr std::uint32_t kTellsNothing = Extent::kInline | Extent::kEncoded | Extent::kDelalloc | Extent::kUnknown | Extent::kUnwritten;

bool has_place(const Extent& extent) {
    return (extent.flags & kTellsNothing) == 0;
}

// Of what two extents say of a range in which both are.
bool same_place(const Extent& a, const Extent& b) {
    return has_place(a) && has_place(b) && a.physical - a.logical == b.physical - b.logical;
}

// What lies in [begin, end).
Extent clipped(Extent extent, std::uint64_t begin, std::uint64_t end) {
    const std::uint64_t from = std::max(extent.logical, begin);
    const std::uint64_t to = std::min(extent.end(), end);
    extent.physical += from - extent.logical;
    extent.logical = from;
    extent.length = to > from ? to - from : 0;
    return extent;
}

}  // namespace

ExtentChanges::ExtentChanges(int before, int now, std::string path, const SameBlocks* blocks)
    : before_(before), now_(now), path_(std::move(path)), blocks_(blocks) {}

bool ExtentChanges::next(Extent& extent) {
    while (taken_ == found_.size()) {
        if (!fill()) {
            return false;
        }
    }
    extent = found_[taken_++];
    return true;
}

// Empty where the file system doesn't tell places.
std::vector<Extent> ExtentChanges::window_of(int file, std::uint64_t begin, std::uint64_t end, std::size_t limit) const {
    std::vector<Extent> extents;
    ExtentReader reader(file, path_, begin, end);
    for (Extent extent; extents.size() < limit && reader.next(extent);) {
        extent = clipped(extent, begin, end);
        extent.flags &= ~std::uint32_t{Extent::kShared};  // with others, which come and go
        if (!reader.exact()) {
            extent.flags |= Extent::kUnknown;
        }
        if (extent.length != 0) {
            extents.push_back(extent);
        }
    }
    return extents;
}

// What can't be told counts as different, and where the later map ends early, all behind that as data.
bool ExtentChanges::fill() {
    found_.clear();
    taken_ = 0;
    if (position_ >= kEnd) {
        return false;
    }
    try {
        compare_window();
    } catch (const Error&) {
        found_.assign(1, {position_, 0, kEnd - position_, Extent::kUnknown});
        position_ = kEnd;
    }
    return true;
}

void ExtentChanges::compare_window() {
    std::vector<Extent> now = window_of(now_, position_, kEnd, kWindow);
    std::uint64_t end = now.size() < kWindow ? kEnd : now.back().end();
    const std::vector<Extent> before = window_of(before_, position_, end, kWindowBefore);
    if (before.size() == kWindowBefore && before.back().end() < end) {
        end = before.back().end();
        for (Extent& extent : now) {
            extent = clipped(extent, position_, end);
        }
        std::erase_if(now, [](const Extent& extent) { return extent.length == 0; });
    }
    const bool stood_still = window_of(now_, position_, end, kWindow + 1) == now;
    position_ = end;
    for (const Extent& extent : now) {
        if (!stood_still) {
            found_.push_back(extent);
        } else if (const std::uint64_t reached = compare(extent, before); reached < extent.end()) {
            position_ = reached;
            break;
        }
    }
}

// Returns where it has got to: not to the end, if that makes too many pieces.
std::uint64_t ExtentChanges::compare(const Extent& extent, const std::vector<Extent>& before) {
    auto other = std::lower_bound(before.begin(), before.end(), extent.logical,
                                  [](const Extent& earlier, std::uint64_t offset) { return earlier.end() <= offset; });
    std::uint64_t at = extent.logical;
    for (; other != before.end() && other->logical < extent.end(); ++other) {
        if (!same_place(*other, extent)) {
            continue;
        }
        if (other->logical > at) {
            found_.push_back(clipped(extent, at, other->logical));
        }
        const Extent both = clipped(extent, other->logical, other->end());
        at = add_same_place(both);
        if (at < both.end()) {
            return at;
        }
    }
    if (extent.end() > at) {
        found_.push_back(clipped(extent, at, extent.end()));
    }
    return extent.end();
}

std::uint64_t ExtentChanges::add_same_place(const Extent& extent) {
    std::uint64_t at = extent.logical;
    while (at < extent.end() && (blocks_ == nullptr || found_.size() < kPieces)) {
        Extent part = clipped(extent, at, extent.end());
        bool same = true;
        if (blocks_ != nullptr) {
            const auto stretch = blocks_->stretch(part.physical, part.physical + part.length);
            part.length = stretch.end - part.physical;
            same = stretch.same;
        }
        part.flags |= same ? kSame : 0;
        found_.push_back(part);
        at = part.end();
    }
    return at;
}

}  // namespace nodesnap

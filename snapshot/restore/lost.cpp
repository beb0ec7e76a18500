#include "snapshot/restore/lost.h"

#include <algorithm>

#include "snapshot/run_reader.h"

namespace nodesnap {
namespace {

// "bytes 0 to 65535 and 131072 to 196607", of those of one cause; empty if there are none.
template <typename Ranges, typename Cause>
std::string list_of(const Ranges& ranges, Cause cause) {
    std::string text;
    for (const auto& range : ranges) {
        if (range.cause == cause && range.begin != range.end) {
            text += text.empty() ? "bytes " : " and ";
            text += std::to_string(range.begin) + " to " + std::to_string(range.end - 1);
        }
    }
    return text;
}

}  // namespace

bool RestoreLost::goes_past(const Error& error) {
    if (!is_loss(error)) {
        return false;
    }
    stopped_ = !accepted_;
    return accepted_;
}

void RestoreLost::add(const std::string& path, LostRange::Cause cause, std::uint64_t offset, std::uint64_t length) {
    const std::lock_guard lock(mutex_);
    any_ = true;
    auto found = files_.find(path);
    if (count_ >= kRangesLimit || (found == files_.end() && names_ + path.size() > kNamesLimit)) {
        ++further_;
        return;
    }
    if (found == files_.end()) {
        found = files_.emplace(path, std::vector<Range>()).first;
        names_ += path.size();
    }
    auto& ranges = found->second;
    Range range{offset, offset + length, cause};
    const auto joins = [&range](const Range& other) {
        return other.cause == range.cause && other.begin <= range.end && range.begin <= other.end;
    };
    for (const auto& other : ranges) {
        if (joins(other)) {
            range = {std::min(range.begin, other.begin), std::max(range.end, other.end), cause};
        }
    }
    count_ -= std::erase_if(ranges, joins);
    const auto place = std::upper_bound(ranges.begin(), ranges.end(), range.begin,
                                        [](std::uint64_t begin, const Range& other) { return begin < other.begin; });
    ranges.insert(place, range);
    ++count_;
}

void RestoreLost::forget_path(const std::string& path, std::uint64_t from) {
    const std::lock_guard lock(mutex_);
    const auto found = files_.find(path);
    if (found == files_.end()) {
        return;
    }
    auto& ranges = found->second;
    count_ -= std::erase_if(ranges, [from](const Range& range) { return range.begin >= from; });
    for (auto& range : ranges) {
        range.end = std::min(range.end, from);
    }
    if (ranges.empty()) {
        names_ -= path.size();
        files_.erase(found);
    }
}

std::vector<LostRange> RestoreLost::ranges() const {
    const std::lock_guard lock(mutex_);
    std::vector<LostRange> all;
    for (const auto& [path, ranges] : files_) {
        for (const auto& range : ranges) {
            all.push_back({path, range.begin, range.end - range.begin, range.cause});
        }
    }
    return all;
}

std::uint64_t RestoreLost::further() const {
    const std::lock_guard lock(mutex_);
    return further_;
}

void RestoreLost::add_further(std::uint64_t count) {
    const std::lock_guard lock(mutex_);
    further_ += count;
}

void RestoreLost::tell(Report& report) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [path, ranges] : files_) {
        const auto stored = list_of(ranges, LostRange::Cause::kStored);
        const auto source = list_of(ranges, LostRange::Cause::kSource);
        std::string line = path + " is incomplete: ";
        if (!stored.empty()) {
            line += "zeros stand for " + stored + ", which are damaged in the repository";
        }
        if (!source.empty()) {
            line += std::string(stored.empty() ? "" : "; ") + "zeros stand for " + source +
                    ", which could not be read when the backup was made";
        }
        if (stored.empty() && source.empty()) {
            line += "not all of it could be read when the backup was made";
        }
        report.warn(std::move(line));
    }
    if (further_ != 0) {
        report.warn("and " + std::to_string(further_) + " more ranges of files are lost, and zeros: too many to name");
    }
}

}  // namespace nodesnap

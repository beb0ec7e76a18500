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

bool RestoreLost::any_stored() const {
    const std::lock_guard lock(mutex_);
    return further_ != 0 || std::any_of(files_.begin(), files_.end(), [](const auto& file) {
               return std::any_of(file.second.begin(), file.second.end(),
                                  [](const Range& range) { return range.cause != LostRange::Cause::kSource; });
           });
}

void RestoreLost::rename(const std::function<std::string(const std::string&)>& path_of) {
    const std::lock_guard lock(mutex_);
    std::map<std::string, std::vector<Range>> renamed;
    names_ = 0;
    for (auto& [path, ranges] : files_) {
        const auto name = path_of(path);
        names_ += name.size();
        renamed[name] = std::move(ranges);
    }
    files_ = std::move(renamed);
}

void RestoreLost::tell(Report& report, bool planned) const {
    const std::string zeros = planned ? "zeros would stand for " : "zeros stand for ";
    const std::lock_guard lock(mutex_);
    for (const auto& [path, ranges] : files_) {
        const auto stored = list_of(ranges, LostRange::Cause::kStored);
        const auto source = list_of(ranges, LostRange::Cause::kSource);
        const auto kept = list_of(ranges, LostRange::Cause::kKept);
        std::string line;
        const auto add = [&line](const std::string& part) { line += (line.empty() ? "" : "; ") + part; };
        if (!kept.empty()) {
            add(kept + (planned ? " would stay" : " are") +
                " what was there before, not proved to be what the backup holds: that is lost in the repository");
        }
        if (!stored.empty()) {
            add(zeros + stored + ", which are damaged in the repository");
        }
        if (!source.empty()) {
            add(zeros + source + ", which could not be read when the backup was made");
        }
        report.warn(path + " is incomplete: " + (line.empty() ? "not all of it could be read when the backup was made" : line));
    }
    if (further_ != 0) {
        report.warn("and " + std::to_string(further_) + " more ranges of files are lost, " +
                    "and zeros, or what was there before: too many to name");
    }
}

}  // namespace nodesnap

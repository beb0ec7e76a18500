#include "snapshot/verify/findings.h"

#include <algorithm>

#include "io/checksum.h"

namespace nodesnap {

namespace {

bool continues(const LostSegments::Range& before, const LostSegments::Range& range) {
    if (before.last == range.first) {
        return before.to == range.from;
    }
    return before.last != LostSegments::kAll && before.last + 1 == range.first && before.to == LostSegments::kAll && range.from == 0;
}

// What is wrong, without the object's name, which stands before it anyway.
std::string brief(const Damage& damage) {
    const std::string prefix = damage.object + " is damaged: ";
    const auto at = damage.what.find(prefix);
    return at == std::string::npos ? damage.what : damage.what.substr(at + prefix.size());
}

}  // namespace

bool is_damage(const Error& error) {
    return error.status() == ExitStatus::kDamaged || is_media_error(error.error_number());
}

bool LostSegments::add(const PackId& pack, const Range& range) {
    if (packs_.size() >= kPacksLimit && !packs_.contains(pack)) {
        return false;
    }
    std::vector<Range>& ranges = packs_[pack];
    if (ranges.size() >= kRangesLimit) {
        ranges.back() = {std::min(ranges.back().first, range.first), std::max(ranges.back().last, range.last), 0, kAll};
    } else if (!ranges.empty() && continues(ranges.back(), range)) {
        ranges.back().last = range.last;
        ranges.back().to = range.to;
    } else {
        ranges.push_back(range);
    }
    return true;
}

std::vector<LostSegments::Range> LostSegments::within(const PackId& pack, std::uint32_t first, std::uint32_t last) const {
    std::vector<Range> met;
    const auto found = packs_.find(pack);
    if (found == packs_.end()) {
        return met;
    }
    for (Range range : found->second) {
        if (range.first > last || range.last < first) {
            continue;
        }
        if (range.first < first) {
            range.first = first;
            range.from = 0;
        }
        if (range.last > last) {
            range.last = last;
            range.to = kAll;
        }
        met.push_back(range);
    }
    return met;
}

void Findings::add(const Damage& damage) {
    const std::lock_guard lock(mutex_);
    const std::string what = brief(damage);
    const std::string text = damage.object + '\0' + what;
    const Checksum checksum = Hasher()(std::as_bytes(std::span(text)));
    const std::pair id{checksum.low, checksum.high};
    if (seen_.contains(id)) {
        return;
    }
    if (seen_.size() < kRemembered) {
        seen_.insert(id);
    }
    ++result_.damage_count;
    if (!damage.healed) {
        ++result_.lost_count;
    }
    if (result_.damages.size() < Report::kKept) {
        result_.damages.push_back({damage.object, what, damage.healed});
    }
}

void Findings::lose(const PackId& pack, const LostSegments::Range& range) {
    const std::lock_guard lock(mutex_);
    if (!lost_.add(pack, range) && !incomplete_) {
        incomplete_ = true;
        keep_information("more packs are damaged than can be traced to files in one run: not all affected files are told");
    }
}

void Findings::lose_file(const SessionId& backup, std::uint64_t ino) {
    if (lost_files_.size() < kRemembered) {
        lost_files_.insert({backup, ino});
    } else if (!incomplete_) {
        incomplete_ = true;
        inform("more files are damaged than can be named in one run: not all affected files are told");
    }
}

void Findings::affect(std::string text) {
    ++result_.affected_count;
    if (result_.affected.size() < Report::kKept) {
        result_.affected.push_back(std::move(text));
    }
}

void Findings::take_over(const Findings& other) {
    const VerifyResult& found = other.result_;
    for (const Damage& damage : found.damages) {
        add(damage);
    }
    const std::lock_guard lock(mutex_);
    const auto healed = std::count_if(found.damages.begin(), found.damages.end(), [](const Damage& damage) { return damage.healed; });
    result_.damage_count += found.damage_count - found.damages.size();
    result_.lost_count += found.lost_count - (found.damages.size() - static_cast<std::uint64_t>(healed));
    result_.affected_count += found.affected_count - found.affected.size();
    for (const std::string& text : found.affected) {
        affect(text);
    }
    for (const std::string& text : found.information) {
        keep_information(text);
    }
    for (const auto& [backup, ino] : other.lost_files_) {
        if (lost_files_.size() < kRemembered) {
            lost_files_.insert({backup, ino});
        }
    }
    lost_trees_.insert(other.lost_trees_.begin(), other.lost_trees_.end());
}

void Findings::inform(std::string text) {
    const std::lock_guard lock(mutex_);
    keep_information(std::move(text));
}

void Findings::keep_information(std::string text) {
    if (result_.information.size() < Report::kKept) {
        result_.information.push_back(std::move(text));
    }
}

}  // namespace nodesnap

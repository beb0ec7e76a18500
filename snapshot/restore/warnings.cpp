#include "snapshot/restore/warnings.h"

#include <cstring>

namespace nodesnap {
namespace {

// Of an entry that isn't there, itself; otherwise what of the files.
std::string subject_of(const RestoreWarnings::Group& group) {
    const bool symlinks = group.what == kSymlinksRefused;
    const bool left_out = symlinks || group.what == kSpecialRefused;
    if (group.count == 1) {
        return left_out ? group.first + (symlinks ? " (a symlink)" : " (a special file)") : group.what + " of " + group.first;
    }
    const auto count = std::to_string(group.count) + " ";
    return (left_out ? count + group.what : group.what + " of " + count + "files") + " (" + group.first + " and others)";
}

}  // namespace

void RestoreWarnings::add(const std::string& what, int error_number, const std::string& path) {
    add(Group{what, error_number, 1, path});
}

void RestoreWarnings::add(const Group& group) {
    const std::lock_guard lock(mutex_);
    auto key = std::pair(group.what, group.error_number);
    if (groups_.size() >= kGroupLimit && !groups_.contains(key)) {
        key = {"further attributes", 0};
    }
    auto& kept = groups_[key];
    if (kept.count == 0) {
        kept = {key.first, key.second, 0, group.first};
    }
    kept.count += group.count;
}

void RestoreWarnings::tell(Report& report) const {
    for (const auto& group : groups()) {
        std::string line = subject_of(group);
        line += " could not be restored";
        if (group.error_number != 0) {
            line += std::string(": ") + std::strerror(group.error_number);
        }
        report.warn(std::move(line));
    }
}

bool RestoreWarnings::has(const std::string& what) const {
    const std::lock_guard lock(mutex_);
    const auto group = groups_.lower_bound({what, 0});
    return group != groups_.end() && group->first.first == what;
}

std::uint64_t RestoreWarnings::left_out() const {
    const std::lock_guard lock(mutex_);
    std::uint64_t count = 0;
    for (const auto& [key, group] : groups_) {
        count += key.first == kSymlinksRefused || key.first == kSpecialRefused ? group.count : 0;
    }
    return count;
}

std::vector<RestoreWarnings::Group> RestoreWarnings::groups() const {
    const std::lock_guard lock(mutex_);
    std::vector<Group> result;
    for (const auto& [key, group] : groups_) {
        result.push_back(group);
    }
    return result;
}

}  // namespace nodesnap

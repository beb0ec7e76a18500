// RestoreWarnings: gathers what the destination can't hold, grouped, so that a million files whose owner can't be set make one line.
// Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "snapshot/report.h"

namespace nodesnap {

// How entries are told that the destination can't hold at all.
inline constexpr const char* kSymlinksRefused = "symlinks";
inline constexpr const char* kSpecialRefused = "special files";

class RestoreWarnings {
public:
    static constexpr std::size_t kGroupLimit = 500;  // further kinds fall into one group

    // "WHAT of N files (PATH and others) could not be restored: strerror(error_number)".
    void add(const std::string& what, int error_number, const std::string& path);
    void tell(Report& report) const;
    bool has(const std::string& what) const;
    std::uint64_t left_out() const;  // symlinks and special files that aren't there

    // To be kept over an interruption.
    struct Group {
        std::string what;
        int error_number = 0;
        std::uint64_t count = 0;
        std::string first;
    };
    std::vector<Group> groups() const;
    void add(const Group& group);

private:
    mutable std::mutex mutex_;
    std::map<std::pair<std::string, int>, Group> groups_;
};

}  // namespace nodesnap

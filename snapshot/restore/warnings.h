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

class RestoreWarnings {
public:
    static constexpr std::size_t kGroupLimit = 500;  // further kinds fall into one group

    // "WHAT of N files could not be restored, PATH first: strerror(error_number)".
    void add(const std::string& what, int error_number, const std::string& path);
    void tell(Report& report) const;
    bool has(const std::string& what) const;

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

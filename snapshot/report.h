// Report: what an operation has to tell besides its result: warnings, one line each. Thread-safe. Warnings make the exit status 4.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace nodesnap {

class Report {
public:
    static constexpr std::size_t kKept = 1000;  // further ones are only counted
    void warn(std::string message);
    std::vector<std::string> warnings() const;
    std::uint64_t count() const;

private:
    mutable std::mutex mutex_;
    std::vector<std::string> warnings_;
    std::uint64_t count_ = 0;
};

}  // namespace nodesnap

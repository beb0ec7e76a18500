// RestoreLost: what of the files the backup hasn't got, so that zeros stand for it, or what was there before: what couldn't be read when
// the backup was made, and what is damaged in the repository since. Thread-safe. Memory: kRangesLimit ranges, kNamesLimit bytes of names;
// further ones are only counted.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "platform/error.h"
#include "snapshot/report.h"
#include "snapshot/restore.h"

namespace nodesnap {

class RestoreLost {
public:
    static constexpr std::size_t kRangesLimit = 10'000;
    static constexpr std::size_t kNamesLimit = 1U << 20;

    explicit RestoreLost(bool accepted) : accepted_(accepted) {}

    bool accepted() const { return accepted_; }
    // Whether the restore goes on after this error: it says that data is lost, and that is accepted.
    bool goes_past(const Error& error);
    // An error was met that it would have gone past, had that been accepted.
    bool stopped() const { return stopped_; }

    void add(const std::string& path, LostRange::Cause cause, std::uint64_t offset, std::uint64_t length);
    void add(const LostRange& range) { add(range.path, range.cause, range.offset, range.length); }
    // What lies from `from` on is restored anew. `path` is called only if anything is lost.
    template <typename PathSource>
    void forget(const PathSource& path, std::uint64_t from) {
        if (any_) {
            forget_path(path(), from);
        }
    }

    // To be kept over an interruption, in order of paths and offsets.
    std::vector<LostRange> ranges() const;
    std::uint64_t further() const;  // those that were only counted
    void add_further(std::uint64_t count);
    bool any_stored() const;  // something is damaged in the repository
    // Where files were restored under names of their own: gives them those that `path_of` says.
    void rename(const std::function<std::string(const std::string&)>& path_of);
    void tell(Report& report, bool planned = false) const;  // a warning for each file; `planned`: nothing is restored yet

private:
    struct Range {
        std::uint64_t begin = 0;
        std::uint64_t end = 0;
        LostRange::Cause cause = LostRange::Cause::kSource;
    };
    void forget_path(const std::string& path, std::uint64_t from);

    const bool accepted_;
    std::atomic<bool> stopped_{false};
    std::atomic<bool> any_{false};
    mutable std::mutex mutex_;
    std::map<std::string, std::vector<Range>> files_;  // ascending, those of one cause that touch joined
    std::size_t count_ = 0;
    std::size_t names_ = 0;
    std::uint64_t further_ = 0;
};

}  // namespace nodesnap

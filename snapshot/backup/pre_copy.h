// PreCopy: reads a directory of which no snapshot can be taken in passes: warm ones while its daemon runs, until what changes during one is
// little, and a last one of just that, while the daemon is held. See docs/design.md, "Reading a directory in passes".
//
//     PreCopy passes(source, options, progress, report);
//     passes.warm(first);                                  // as long as it takes
//     SnapshotHold hold(...);
//     const Held held = passes.finish(hold, longest);      // the daemon is held for a part of it
//     ... passes.result() is the state while it was held
//
// Errors: Error; the daemon runs, or the message says that it may not. Nothing of it may be published then, and all that was stored is the
// session's to clear up. Threads: one at a time. Memory: as a drain.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/progress.h"
#include "snapshot/backup/snapshot_hold.h"
#include "snapshot/drain/drain.h"
#include "snapshot/drain/live_stamp.h"
#include "snapshot/exclude.h"
#include "snapshot/report.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

class PreCopy {
public:
    static constexpr unsigned kWarmPasses = 5;  // at most

    // All must outlive it. `root` is open on `node_directory`.
    struct Source {
        int root;
        const std::string& node_directory;
        const ExcludeRules& excludes;
        const Repository& repository;
        const SessionId& session;
    };
    PreCopy(const Source& source, const DrainOptions& options, Progress& progress, Report& report);

    // `first` drains everything, with options that it may change: as a backup of a directory that isn't in use.
    void warm(const std::function<DrainResult(DrainOptions& options)>& first);
    // Error::failed before anything is held, if what a warm pass had to read took longer than `longest`; and afterwards, if the rest does,
    // or if the hold proves nothing.
    Held finish(SnapshotHold& hold, std::chrono::nanoseconds longest);

    // With the packs and the counts of all passes.
    const DrainResult& result() const { return result_; }
    unsigned passes() const { return passes_; }  // with the last one
    std::uint64_t held_read_bytes() const { return held_read_bytes_; }
    std::uint64_t held_files() const { return held_files_; }

private:
    bool is_little_enough() const;
    void begin_pass();
    void drain(const DrainOptions& options);
    void add(DrainResult pass);
    void look_at_place() const;

    Source source_;
    DrainOptions options_;
    Progress& progress_;
    Report& report_;
    DrainResult result_;
    std::optional<LiveStamp> stamp_;  // of the last warm pass
    unsigned passes_ = 0;
    std::chrono::nanoseconds reading_{0};         // that the last pass took
    std::chrono::nanoseconds reading_before_{0};  // that the one before took
    std::uint64_t held_read_bytes_ = 0;
    std::uint64_t held_files_ = 0;
};

}  // namespace nodesnap

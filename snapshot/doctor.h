// Doctor: what the storage of a node directory offers for its backups, what would be chosen and why, what is in the way or missing, and how
// fast source and target are. For an operator who hasn't made a backup yet, or wonders why one is slow.
//
// Changes nothing. Measuring reads files of the node directory past the page cache, and writes to a file without a name beside the
// repository's objects. Privileges: whatever can't be seen without them is a finding. One thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/progress.h"
#include "snapshot/backup.h"

namespace nodesnap {

// Something that was found.
struct Finding {
    enum class Severity {
        kFact,
        kWarning,   // a backup goes on, but holds less, is slower, or harms more than it need
        kObstacle,  // a backup is refused
    };
    Severity severity = Severity::kFact;
    std::string topic;   // "layout"
    std::string text;    // one line
    std::string remedy;  // what to do about it; empty of a fact
};

// A kind of snapshot.
struct SnapshotOffer {
    std::string kind;     // as in --snapshot
    std::string why_not;  // empty if it can be had
};

struct MeasuredSpeed {
    double bytes_per_second = 0;         // large pieces, one after the other
    double random_reads_per_second = 0;  // of 4 KiB; 0: not measured
};

struct Diagnosis {
    std::string node_directory;  // absolute, without symlinks
    std::vector<Finding> findings;
    std::vector<SnapshotOffer> offers;
    std::string chosen;  // by `auto`, or as asked for; empty: a backup is refused
    std::string reason;
    std::uint64_t files = 0, directories = 0, others = 0;
    std::uint64_t bytes = 0;  // that are allocated, and not excluded
    std::optional<MeasuredSpeed> source, target;
    std::string command;  // that is proposed

    bool has(Finding::Severity severity) const;
};

struct DoctorOptions {
    BackupOptions backup;    // as the backup would be called
    std::string repository;  // as it was named, for the command that is proposed; empty: none was
    bool measure = true;
    std::chrono::nanoseconds measuring_time{std::chrono::seconds(1)};  // of each
};

// `repository`: nullptr where none is named. Throws only where there is no node directory, or on interruption.
Diagnosis diagnose(const DoctorOptions& options, const Repository* repository, Progress& progress, Report& report);

}  // namespace nodesnap

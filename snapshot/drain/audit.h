// Audit: whether a backup that was put together from a change list says what the snapshot holds, by a sample or by all of it.
//
// The sample: blocks of up to 64 KiB are taken at random from files at random, and from those whose maps were edited, read from the
// snapshot and compared with the checksums of what the new tree refers to. What can't be read in the snapshot proves nothing; what can't be
// read in the repository is told, and isn't counted.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/progress.h"
#include "snapshot/report.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

class SnapshotFiles;

struct AuditLimits {
    std::uint64_t least_bytes = std::uint64_t{1} << 20;  // read whatever time it takes, if the tree has as much
    std::uint64_t most_bytes = std::uint64_t{64} << 20;
    std::uint64_t share = 1000;  // one in so many of the tree's bytes
    std::int64_t nanoseconds = 2'000'000'000;
};

struct AuditResult {
    std::uint64_t bytes = 0;
    std::string lie;   // where the tree says something else than the snapshot; empty: nowhere
    std::string lost;  // where what the tree refers to can't be read, and why; empty: nowhere
};

// A directory in the snapshot; and how its files are opened, where not by their numbers on btrfs.
struct AuditedSource {
    AuditedSource(int directory_, const SnapshotFiles* files_ = nullptr) : directory(directory_), files(files_) {}  // from one alone, too
    int directory;
    const SnapshotFiles* files;
};

// `tree` is the backup's, whose nodes and packs are all there; `edited`: inodes that the change list
// spoke of. One thread. Needs CAP_DAC_READ_SEARCH.
AuditResult audit(const AuditedSource& source, const Repository& repository, const TreeRoot& tree, std::uint64_t data_bytes,
                  const std::vector<std::uint64_t>& edited, const AuditLimits& limits = {});

// Every range of every file of the tree that holds data, in the snapshot or in the tree. `lie` tells of all: the first, and how many more.
AuditResult audit_everything(const AuditedSource& source, const Repository& repository, const TreeRoot& tree, Progress& progress,
                             Report& report);

}  // namespace nodesnap

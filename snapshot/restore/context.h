// What the workers of one restore share.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/throttle.h"
#include "snapshot/restore.h"
#include "snapshot/restore/attributes.h"
#include "snapshot/restore/basis.h"
#include "snapshot/restore/batch.h"
#include "snapshot/restore/links.h"
#include "snapshot/restore/lost.h"

namespace nodesnap {

// How directories that the destination has no name for are told; nothing below them is restored.
inline constexpr const char* kDirectoryRefused = "the directory";
inline constexpr const char* kNameRefused = "the name";  // of anything else

struct RestoreContext {
    const Repository& repository;
    const Manifest& backup;
    AttributeWriter& attributes;
    OwnerMap& owners;
    RestoreWarnings& warnings;
    RestoreLost& lost;
    RestoreLinks& links;
    RestoreLedger& ledger;
    Throttle& throttle;
    Progress& progress;
    Report& report;
    bool direct_writes = false;            // O_DIRECT pays here
    bool preallocates = false;             // so does fallocate()
    std::size_t window_bytes = 16U << 20;  // of a large file, which one worker restores at a time
    bool going_on = false;                 // what an earlier run left may be in the way
    const RestoreBasis* basis = nullptr;   // of a delta restore
    // In place: the root's entries of these names are made in another directory.
    std::shared_ptr<OpenDirectory> gates_directory;
    std::vector<std::string> gate_files;
    int old_gates = -1;  // the directory that they were moved away to
    std::atomic<bool> sealed{false};
    std::atomic<std::uint64_t> bytes{0};          // of data written
    std::atomic<std::uint64_t> bytes_kept{0};     // that were there already
    std::atomic<std::uint64_t> files_changed{0};  // that were there, with other contents

    bool has_basis(RestoreBasis::Kind kind) const { return basis != nullptr && basis->kind == kind; }
};

}  // namespace nodesnap

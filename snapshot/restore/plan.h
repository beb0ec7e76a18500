// RestorePlan: walks what is to be restored, makes the directories, and cuts all else into batches.
//
// Entries are gathered over many directories, sorted by inode number, and cut: in that order they lie near each other in the tree and in
// the packs. The order depends on the backup and the selection alone. One thread. Memory: one gathering (kGatherBytes, kGatherDirectories
// open directories).
#pragma once

#include <cstdint>
#include <vector>

#include "snapshot/restore/queue.h"
#include "snapshot/restore/selection.h"

namespace nodesnap {

class RestorePlan {
public:
    static constexpr std::size_t kGatherBytes = 8U << 20;
    static constexpr std::size_t kGatherDirectories = 128;

    RestorePlan(RestoreContext& context, RestoreQueue& queue, const RestoreSelection& selection, int root)
        : context_(context), queue_(queue), selection_(selection), root_(root) {}

    // Until all batches that weren't complete at the start are in the queue, or the queue was aborted.
    void run();

private:
    bool run_part(const RestoreSelection::Part& part);
    void enter(RestoreTrail& trail, const std::string& name);
    bool gather(const std::shared_ptr<OpenDirectory>& directory, NamedEntry entry);
    bool flush();

    RestoreContext& context_;
    RestoreQueue& queue_;
    const RestoreSelection& selection_;
    int root_;
    std::vector<RestoreEntry> gathered_;
    std::size_t gathered_bytes_ = 0;
    std::size_t gathered_directories_ = 0;
    std::uint64_t next_batch_ = 0;
};

}  // namespace nodesnap

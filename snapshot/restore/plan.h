// RestorePlan: walks what is to be restored, makes the directories, and cuts all else into batches.
//
// Entries are gathered over many directories, sorted by inode number, and cut: in that order they lie near each other in the tree and in
// the packs. The order depends on the backup and the selection alone. One thread. Memory: one gathering (kGatherBytes, kGatherDirectories
// open directories).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "snapshot/restore/context.h"
#include "snapshot/restore/selection.h"

namespace nodesnap {

class RestorePlan {
public:
    static constexpr std::size_t kGatherBytes = 8U << 20;
    static constexpr std::size_t kGatherDirectories = 128;

    // Takes the entries of a batch, at most RestoreBatch::kEntries. False: no further ones are wanted.
    using Sink = std::function<bool(std::uint64_t number, std::span<RestoreEntry> entries)>;
    enum class Directories { kMake, kLookUp };

    RestorePlan(RestoreContext& context, const RestoreSelection& selection, int root, Sink sink,
                Directories directories = Directories::kMake)
        : context_(context), selection_(selection), root_(root), sink_(std::move(sink)), directories_(directories) {}

    // Until all batches have been given to the sink, or it wants no more.
    void run();

private:
    bool run_part(const RestoreSelection::Part& part);
    bool enter(RestoreTrail& trail, const std::string& name);
    bool is_gate(const std::shared_ptr<OpenDirectory>& directory, const std::string& name) const;
    bool gather(const std::shared_ptr<OpenDirectory>& named, NamedEntry entry);
    bool flush();

    RestoreContext& context_;
    const RestoreSelection& selection_;
    int root_;
    Sink sink_;
    Directories directories_;
    std::vector<RestoreEntry> gathered_;
    std::size_t gathered_bytes_ = 0;
    std::size_t gathered_directories_ = 0;
    std::uint64_t next_batch_ = 0;
};

}  // namespace nodesnap

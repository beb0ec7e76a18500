// CloneAhead: makes a tree of clones, as many of them as it can before the daemon is held. Of those a status is taken first; while the
// daemon is held a clone is kept if its file's status is still that, and proves that nobody has written since (LiveStamp). All else is
// cloned then. See docs/design.md, "Snapshots made of clones".
//
// Files of several names are kept or cloned again as a whole. Memory: some 250 bytes for each file that is cloned ahead, of which there may
// be kLimit; the others are cloned while the daemon is held.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "snapshot/backend/ahead_names.h"
#include "snapshot/backend/tree_maker.h"
#include "snapshot/drain/live_stamp.h"

namespace nodesnap {

class CloneAhead : public TreeMaker {
public:
    static constexpr std::size_t kLimit = 128U << 10;

    // `node`, `tree`: descriptors of the node directory, whose path is for messages, and of the tree that is made; `links` as of
    // InodeClone, as `nameless`.
    CloneAhead(int node, std::string node_directory, int tree, int links, NamelessFiles* nameless);

    void begin_ahead() override;  // as LiveStamp::take()
    void begin_held(std::int64_t until_ns) override;
    void settle(int directory, const std::string& path) override;

    void clone(const SourceDirectory& from, const SourceEntry& entry, int to, const std::string& path) override;
    void finish_directory(int from, int to, const std::string& path) override;

private:
    enum class Phase { kAhead, kHeld };
    struct Name {
        std::string path;
        bool made = false;
        bool kept = false;
    };
    struct Cloned {
        LiveStatus status;  // from before it was cloned
        std::vector<Name> names;
        std::optional<bool> is_kept;  // once that is known, while held
    };
    struct Shard {
        std::mutex mutex;
        std::unordered_map<std::uint64_t, Cloned> files;
    };
    static constexpr std::size_t kShards = 64;

    Shard& shard_of(std::uint64_t ino) { return shards_[ino % kShards]; }
    void clone_ahead(const SourceDirectory& from, const SourceEntry& entry, int to, const std::string& place, const std::string& path);
    bool keep(const SourceDirectory& from, const SourceEntry& entry, int to, const std::string& place, const std::string& path);
    bool is_unchanged(const SourceDirectory& from, const SourceEntry& entry, const Cloned& cloned) const;
    void make_room(int to, const std::string& name, const std::string& place);

    const int node_, tree_;
    const std::string node_directory_;
    std::optional<LiveStamp> stamp_;  // none: nothing was made ahead
    bool stamp_counts_ = false;
    Phase phase_ = Phase::kHeld;
    std::array<Shard, kShards> shards_;
    std::atomic<std::size_t> count_{0};
    AheadDirectories directories_;
    std::mutex replaced_mutex_;
    std::unordered_set<std::string> replaced_;  // places of what was made ahead, and then made again
};

}  // namespace nodesnap

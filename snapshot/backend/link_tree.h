// LinkTree: makes a tree in which the files that never change are further names of the node's own inodes, and the others are copies. Ahead
// it makes the directories, and links of what fits the patterns; held, what has come since, and copies of the rest; settled, the index.
// Where nothing can get a name (NamelessFiles) it holds them open instead.
//
// A file is linked if its name fits a pattern, or another of its names did that was met before, and if a read lease on it can be had.
// Errors are nodesnap::Error. Any thread between the steps. Memory: some 200 bytes for each linked file, of which there may be kLimit.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "snapshot/backend/ahead_names.h"
#include "snapshot/backend/link_index.h"
#include "snapshot/backend/tree_maker.h"
#include "snapshot/exclude.h"

namespace nodesnap {

class LinkTree : public TreeMaker {
public:
    static constexpr std::size_t kLimit = 256U << 10;

    // `tree`: descriptor of the tree that is made, for as long as this lives; `links` as of InodeClone. `immutable`: the patterns.
    // `others`: the links of the snapshots that are there. `nameless` as of InodeClone.
    LinkTree(int tree, int links, const ExcludeRules& immutable, LinkIndexes others, NamelessFiles* nameless);

    void begin_ahead() override;
    void begin_held(std::int64_t until_ns) override;
    // Returns when whatever is written from now on gets a later time than what was recorded.
    void end_held() override;
    void settle(int directory, const std::string& path) override;

    void clone(const SourceDirectory& from, const SourceEntry& entry, int to, const std::string& path) override;
    void finish_directory(int from, int to, const std::string& path) override;

    std::uint64_t rest_bytes() const override { return rest_bytes_; }
    bool is_untouched(const FileStatus& status) const override;

protected:
    std::vector<UnwrittenRange> give_content(int from, const FileStatus& status, int to, const std::string& path) override;
    std::uint64_t links_of(const FileStatus& status) const override;

private:
    enum class Phase { kAhead, kHeld };
    struct Name {
        std::string path;
        bool confirmed = false;  // while held
    };
    struct Linked {
        LinkRecord record;
        std::vector<Name> names;
        bool is_copied = false;  // no lease was to be had while held
    };
    struct Shard {
        mutable std::mutex mutex;
        std::unordered_map<std::uint64_t, Linked> files;
    };
    static constexpr std::size_t kShards = 64;

    Shard& shard_of(std::uint64_t ino) { return shards_[ino % kShards]; }
    const Shard& shard_of(std::uint64_t ino) const { return shards_[ino % kShards]; }
    bool link(const SourceDirectory& from, const SourceEntry& entry, int to, const std::string& place, const std::string& path);
    bool link_open(Linked& linked, int file, const SourceEntry& entry, int to, const std::string& place, const std::string& path);
    bool is_linkable(const Linked& linked, int file, const FileStatus& status, const std::string& path) const;
    int add_name(int file, std::uint64_t ino, int to, const std::string& name, const std::string& path) const;
    RemovedLink remove_name_of(int file, int directory, const std::string& name) const;
    std::optional<FileStatus> status_of(int directory, const std::string& name) const;
    int try_open_made(int directory, const std::string& name) const;
    void remove_name(Linked& linked, int file, const SourceEntry& entry, int to, const std::string& place) const;
    void make_room(const SourceEntry& entry, int to, const std::string& place);
    static void note_removal(LinkRecord& record, const RemovedLink& removed, const std::string& place);
    LinkRecord record_of(const Linked& linked, int file, const FileStatus& status) const;
    void drop(std::uint64_t ino, Linked& linked, const std::string& place) const;

    const int tree_;
    const ExcludeRules& immutable_;
    const LinkIndexes others_;
    Phase phase_ = Phase::kHeld;
    bool was_ahead_ = false;
    std::int64_t until_ns_ = 0;
    std::array<Shard, kShards> shards_;
    std::atomic<std::size_t> count_{0};
    std::atomic<std::uint64_t> rest_bytes_{0};
    std::atomic<bool> may_clone_{true};  // as far as is known
    AheadDirectories directories_;
};

}  // namespace nodesnap

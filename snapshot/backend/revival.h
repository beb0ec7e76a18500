// Revival: makes of the inodes of a snapshot's tree such as the node's were: what a clone couldn't be, and stands in its CloneOrigin, is
// put right (flags, times of access, space that is allocated but unwritten), and none of them has an origin any more.
//
//     Revival inodes(links, ...);   clone_tree(tree, ..., to, inodes, ...);   inodes.finish();
//
// LinkRevival is the same where nothing can be cloned: files that are never written to again are linked, the others copied. Errors are
// nodesnap::Error. Any thread before finish(). Memory: some bytes for each file of several names that has a flag which forbids to link it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "snapshot/backend/inode_clone.h"
#include "snapshot/backend/link_index.h"
#include "snapshot/exclude.h"

namespace nodesnap {

// What tells what an inode of a tree was in the node directory.
enum class Origins {
    kRecorded,  // its CloneOrigin
    kOwn,       // it is the node's own, or one of a snapshot that keeps all that there is
};

class Revival : public InodeClone {
public:
    // `links`: as of InodeClone, for as long as this lives.
    Revival(int links, Origins origins) : InodeClone(links), links_(links), origins_(origins) {}

    void finish_directory(int from, int to, const std::string& path) override;
    // When all is made: the names in `links` go, and flags come that forbid to make names or to change anything.
    void finish();
    // The tree's root had such a flag, which it hasn't got: it is still to be moved.
    bool has_sealed_root() const { return has_sealed_root_; }

protected:
    CloneOrigin origin_of(int fd, bool readable, const FileStatus& status, const std::string& path) const override;
    void begin_attributes(int to, CloneOrigin& origin, const std::string& path) const override;
    void give_origin(int, bool, const CloneOrigin&, const std::string&) const override {}
    void end_file(int to, const FileStatus& from, bool several, const CloneOrigin& origin, const std::string& path) override;
    virtual bool has_origin(const FileStatus&) const { return origins_ == Origins::kRecorded; }

private:
    const int links_;
    const Origins origins_;
    bool has_sealed_root_ = false;
    std::mutex sealed_mutex_;
    std::unordered_map<std::uint64_t, std::uint32_t> sealed_;  // flags of what has more names to come, by its number
};

class LinkRevival : public Revival {
public:
    // `own`: of the snapshot, if it is made of links. `all`: of all snapshots. `immutable`: patterns, for a tree without an index.
    LinkRevival(int links, Origins origins, const LinkIndex& own, const LinkIndexes& all, const ExcludeRules& immutable)
        : Revival(links, origins), own_(own), all_(all), immutable_(immutable) {}

    void clone(const SourceDirectory& from, const SourceEntry& entry, int to, const std::string& path) override;

protected:
    // One that couldn't get another name says of itself what it is.
    bool has_origin(const FileStatus& status) const override;
    std::vector<UnwrittenRange> give_content(int from, const FileStatus& status, int to, const std::string& path) override;

private:
    static constexpr std::size_t kShards = 64;

    bool link(const SourceDirectory& from, const SourceEntry& entry, int to, const std::string& path);

    const LinkIndex& own_;
    const LinkIndexes& all_;
    const ExcludeRules& immutable_;
    std::array<std::mutex, kShards> shards_;  // by number: the change time of one inode is looked at by one thread
};

// Whether the link that `record` is of is still what it was, as far as it shows. Error::refused otherwise.
void require_unspoilt(const LinkRecord& record, const FileStatus& status, const std::string& path);

}  // namespace nodesnap

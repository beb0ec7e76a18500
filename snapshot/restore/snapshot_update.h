// SnapshotUpdate: makes of a writable clone of one backup's snapshot what another backup says. What is done follows what differs between
// the two backups' trees, however large the node is.
//
// A clone has the inode numbers of the snapshot, which are those of its backup's tree. So nothing is looked for by its path: directories
// and files are opened by number. What is changed goes through a directory of its own in the clone's root, the limbo:
//
//   take_names    every name that the wanted backup doesn't have is taken away; what it led to waits in the limbo
//   make_files    what is new or changed gets a name in the limbo, under which the restore's workers make or change it
//   give_names    every name that the earlier backup didn't have is given; new directories get their place
//   finish        what is left in the limbo is removed, and what the snapshot held beyond its backup (excluded names); then directories get
//                 their attributes
//
// Not to be gone on with: one that was cut off is begun anew, with a new clone. Needs CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH. One thread,
// but for what the sink of make_files() does. Memory: as TreeDiff, and one gathering of RestorePlan::kGatherBytes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "snapshot/repository/tree_diff.h"
#include "snapshot/restore/plan.h"

namespace nodesnap {

class SnapshotUpdate {
public:
    // Whether all that is in both can become what it is in `after`. Goes through what differs.
    static bool possible(const Repository& repository, const Manifest& before, const Manifest& after);

    // `root` is the clone's, a descriptor that outlives this.
    SnapshotUpdate(RestoreContext& context, const Manifest& before, int root);

    void take_names();
    void make_files(const RestorePlan::Sink& sink);
    void give_names();
    void finish();

private:
    // An inode that differs, or a directory whose names do, in ascending order.
    struct Touched {
        std::uint64_t ino = 0;
        std::optional<Inode> before, after;  // none: that backup hasn't got it
        bool is_new() const { return after && (!before || before->type != after->type); }
        bool is_changeable() const;
    };
    class TouchedInodes;

    void for_each_name(const std::function<void(std::uint64_t directory, const std::string& name, const std::optional<Dirent>& before,
                                                const std::optional<Dirent>& after)>& each);
    void take_name(int directory, const std::string& name, const Dirent& entry);
    void give_name(int directory, const std::string& name, const Dirent& entry);
    void name_new_directory(std::uint64_t ino);
    RestoreEntry file_entry(const Touched& touched);
    FileDescriptor open_held(std::uint64_t ino, int flags) const;
    const FileDescriptor& directory(std::uint64_t ino);
    void finish_directory(int fd, std::uint64_t ino, const PathSource& path);

    RestoreContext& context_;
    const Manifest& before_;
    const int root_;
    const std::uint64_t subvolume_;
    std::string limbo_name_;
    std::shared_ptr<OpenDirectory> limbo_;
    std::uint64_t directory_ino_ = 0;  // the one that is open
    FileDescriptor directory_;
};

}  // namespace nodesnap

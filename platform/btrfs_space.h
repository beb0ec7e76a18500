// The space that a snapshot on btrfs holds, and how it comes free. As platform/btrfs_tree.h: bounded memory, CAP_SYS_ADMIN, Linux 5.15 or
// later, nodesnap::Error. Any thread.
#pragma once

#include <cstdint>
#include <string>

namespace nodesnap::btrfs {

struct HeldSpace {
    std::uint64_t alone_bytes = 0;   // would come free if it were removed alone
    std::uint64_t shared_bytes = 0;  // at most so much besides, if others were removed with it
    // Some of the shared bytes may come free as well when it is removed alone: two of its files share them.
    bool shares_within = false;
};

// About how much space a read-only snapshot holds. Alone: the stored size of its extents that neither the
// subvolume it was taken of nor any other snapshot or file refers to. An extent can only be such where the subvolume has changed since, so
// that this costs what has changed, and not what there is. An estimate: the trees themselves (with the contents of very small files) aren't
// counted, nor what files of the snapshot share only with each other (that is in `shared_bytes`), nor what was written to the subvolume and
// isn't committed yet. `shared_bytes` is an upper bound: what of the snapshot the subvolume doesn't have at the same place any more,
// whoever else may have it. Both are descriptors of the roots, opened for reading.
HeldSpace held_space(int snapshot, int subvolume, const std::string& path_for_messages);

// Waits until the space of a deleted subvolume has come free: the kernel gives it back in the background. `fd` is any directory of the file
// system. Error::failed when the program is asked to stop meanwhile; the kernel goes on then.
void wait_until_cleaned(int fd, std::uint64_t subvolume_id, const std::string& path_for_messages);

}  // namespace nodesnap::btrfs

// What becomes of a rollback of a logical volume that was cut off. Errors: nodesnap::Error. One thread. Needs root.
#pragma once

#include <cstdint>
#include <string>

namespace nodesnap {

// Ends a rollback of what the directory lies on, or of what was mounted where it was, that was cut off. Says what the directory is now, as
// a sentence; empty if there was none, or one is being done. `directory` need not exist.
std::string finish_lvm_rollback(const std::string& directory);

// What a daemon needs that is started again after a rollback: a volume that is unmounted while a snapshot is merged into it is mounted, so
// that the directory is the old one or the new one, whatever has become of the rollback. All else of it is left to finish_lvm_rollback().
struct MountBack {
    std::string directory;
    std::int64_t pid = 0;  // of a rollback that must not go on, and is ended; 0: its end is waited for
    std::uint64_t process_start = 0;
};
void mount_back(const MountBack& request);

}  // namespace nodesnap

// The metadata of a thin pool, reserved so that they can be read while the pool is in use: by one at a time, and until they are released,
// whatever becomes of who reserved them. So what is ours bears a mark: a tag of one of our own snapshots in that pool, set before, and with
// the place of the metadata after. See docs/design.md, "Snapshots of logical volumes".
#pragma once

#include <string>
#include <vector>

#include "platform/file_descriptor.h"
#include "platform/lvm.h"

namespace nodesnap {

enum class ReservedBy { kNobody, kUs, kOthers };
// `reserved`: PoolFill's; `tags`: of all our snapshots in that pool.
ReservedBy who_reserved(std::uint64_t reserved, const std::vector<std::string>& tags);

class ReservedMetadata {
public:
    // `marked`: one of our snapshots in the pool. Waits for another nodesnap that has them reserved. Error::failed where somebody else has.
    ReservedMetadata(lvm::Volume pool, lvm::Volume marked);
    ReservedMetadata(const ReservedMetadata&) = delete;
    ReservedMetadata& operator=(const ReservedMetadata&) = delete;
    // Releases them as far as that is possible: call release() to hear of errors. The next command does what is left to do.
    ~ReservedMetadata();

    void release();

private:
    void mark();

    const lvm::Volume pool_;
    const lvm::Volume marked_;
    FileDescriptor lock_;
    std::string tag_;  // that `marked` bears
    bool reserved_ = false;
};

// Releases what a program of ours that was killed has reserved, if one has, and takes the marks away. `volumes`: of the pool's group.
// Nothing is done while another one of ours has them reserved.
void release_left_metadata(const lvm::Volume& pool, const std::vector<lvm::Volume>& volumes);
bool has_metadata_mark(const lvm::Volume& volume);

}  // namespace nodesnap

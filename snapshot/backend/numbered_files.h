// NumberedFiles: the files of a file system, mounted from a snapshot of the device it lies on, by their own numbers. See SnapshotFiles.
#pragma once

#include <cstdint>
#include <string>

#include "platform/file_descriptor.h"
#include "snapshot/backend/snapshot_files.h"

namespace nodesnap {

class NumberedFiles : public SnapshotFiles {
public:
    // `mounted`: a directory of it, which must stay open; `type`: "ext4", "xfs".
    NumberedFiles(int mounted, std::string type);

    FileDescriptor open(std::uint64_t ino, std::uint64_t generation) const override;
    bool place_proves() const override { return false; }

private:
    const int mounted_;
    const std::string type_;
};

}  // namespace nodesnap

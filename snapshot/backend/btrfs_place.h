// BtrfsPlace: where a node directory lies on btrfs, and where its snapshots are kept. See docs/design.md, "Layouts".
//
//   folder               snapshots of the subvolume that holds it, in <root of that subvolume>/.nodesnap
//   subvolume            snapshots of it, in <its parent directory>/.nodesnap
//   mounted subvolume    snapshots of it, in .nodesnap of the file system's top level, reached through a mount that nobody else sees
//
// or in a directory on the same file system that the operator names. Nothing is made before open_folder(true).
#pragma once

#include <string>

#include "platform/file_descriptor.h"
#include "snapshot/backend/backend.h"
#include "snapshot/backend/snapshot_folder.h"
#include "snapshot/exclude.h"

namespace nodesnap {

class BtrfsPlace {
public:
    // `node_directory` is absolute, without symlinks, and on btrfs. Error::refused where no snapshots can be kept. Without `excludes` the
    // place is only looked for: it may lie inside the node directory.
    BtrfsPlace(const std::string& node_directory, const std::string& snapshot_directory, const ExcludeRules* excludes);

    Layout layout() const { return layout_; }
    const std::string& node_directory() const { return node_directory_; }
    const std::string& file_system_uuid() const { return file_system_uuid_; }
    int subvolume() const { return subvolume_.get(); }     // root of the subvolume that is snapshotted
    const std::string& inside() const { return inside_; }  // the node directory's path in it
    const std::string& folder() const { return folder_; }  // as snapshots' paths begin
    std::string describe_folder() const;
    // The folder of the snapshots; an empty descriptor if there is none yet and `make` is false.
    FileDescriptor open_folder(bool make) const;

private:
    void find_subvolume();
    void find_folder(const ExcludeRules* excludes);
    void use_directory(const std::string& directory, const ExcludeRules* excludes);
    int top_level();

    std::string node_directory_;
    Layout layout_ = Layout::kFolder;
    std::string file_system_uuid_;
    std::string subvolume_root_;  // empty when it isn't mounted whole
    std::string inside_;
    FileDescriptor top_level_;  // must outlive what is opened through it
    FileDescriptor subvolume_;
    bool in_top_level_ = false;
    bool named_by_operator_ = false;
    std::string folder_;
};

// The path of a snapshot in a file system's top level is "btrfs:UUID/.nodesnap/NAME".
inline constexpr const char* kTopLevelScheme = "btrfs:";
// The folder in the top level, as open_folder() does.
FileDescriptor open_top_level_folder(int top_level, bool make);

}  // namespace nodesnap

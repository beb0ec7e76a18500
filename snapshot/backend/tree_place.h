// TreePlace: where a node directory lies, and where its snapshots are kept that are trees of clones, or of links and copies:
//
//   folder, subvolume    <parent directory>/.nodesnap
//   root of a mount      there is no beside: in memory, for as long as it is needed (NamelessFiles), or nowhere
//
// or in a directory of the same file system that the operator names; at the root of a mount that lies inside, and must be excluded. Nothing
// is made before open_folder(true).
#pragma once

#include <string>

#include "platform/file_descriptor.h"
#include "snapshot/backend/backend.h"
#include "snapshot/exclude.h"

namespace nodesnap {

class TreePlace {
public:
    // `node_directory` is absolute, without symlinks. Error::refused where no snapshots can be kept. Without `excludes` the place is only
    // looked for: it may lie inside the node directory. `must_last`: not in memory.
    TreePlace(const std::string& node_directory, const std::string& snapshot_directory, const ExcludeRules* excludes, bool must_last);

    Layout layout() const { return layout_; }
    const std::string& node_directory() const { return node_directory_; }
    const std::string& file_system_uuid() const { return file_system_uuid_; }
    // Of one in memory: what to call it, for it has no path.
    const std::string& folder() const { return folder_; }
    bool in_memory() const { return in_memory_; }
    // The folder of the snapshots; an empty descriptor if there is none yet and `make` is false.
    FileDescriptor open_folder(bool make) const;

    // Why files of the node's file system can't be cloned to there; empty if they can. Clones a small file that has no name.
    std::string why_no_clones() const;
    // Why no tree can be had in memory, of files that are held open.
    std::string why_not_in_memory() const;

    // Why its files can't be linked to there, or no leases be had on them; empty if they can, as far as a file without a name tells.
    std::string why_no_links() const;

private:
    std::string beside() const;
    FileDescriptor open_memory(bool make) const;

    std::string node_directory_;
    Layout layout_ = Layout::kFolder;
    std::string file_system_uuid_;
    bool named_by_operator_ = false;
    std::string folder_;
    bool in_memory_ = false;
    mutable FileDescriptor memory_;  // once it is needed
};

}  // namespace nodesnap

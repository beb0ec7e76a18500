// How a snapshot is called on storage: "<base name of the node directory>-<8 hex digits of its path's hash>.<given name>", with ".tmp"
// behind it if a backup made it for itself. So several nodes can keep their snapshots in one folder. At most 255 bytes, since a given name
// has at most 200.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace nodesnap {

struct SnapshotName {
    std::string given;
    bool temporary = false;
};

class SnapshotNaming {
public:
    explicit SnapshotNaming(const std::string& node_directory);  // absolute, without symlinks
    // Error::usage if the given name can't be one: empty, too long, with '/', control characters or ".tmp" at its end.
    std::string on_disk(const std::string& given, bool temporary) const;
    std::optional<SnapshotName> parse(std::string_view on_disk) const;  // nullopt: not a snapshot of this node directory

private:
    std::string prefix_;
};

// Whether a name can have been made by a SnapshotNaming, of whatever node directory.
bool is_snapshot_name(std::string_view on_disk);
bool is_temporary_snapshot_name(std::string_view on_disk);
std::string without_temporary(const std::string& on_disk);  // the same, as of a snapshot that an operator made

}  // namespace nodesnap

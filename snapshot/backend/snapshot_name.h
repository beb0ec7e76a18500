// How a snapshot is called on storage: "<base name of the node directory>-<8 hex digits of its path's hash>.<given name>", with ".tmp"
// behind it if a backup made it for itself. So several nodes can keep their snapshots in one folder. At most 255 bytes, since a given name
// has at most 200. A logical volume's name is shorter, and plainer: "nodesnap.", a beginning of the base name of letters, digits and dots,
// and then as above.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace nodesnap {

struct SnapshotName {
    std::string given;
    bool temporary = false;
};

enum class NameStyle { kFile, kVolume };

class SnapshotNaming {
public:
    // `node_directory` is absolute, without symlinks.
    explicit SnapshotNaming(const std::string& node_directory, NameStyle style = NameStyle::kFile);
    // Error::usage if the given name can't be one: empty, too long, with '/', control characters or ".tmp" at its end.
    std::string on_disk(const std::string& given, bool temporary) const;
    std::optional<SnapshotName> parse(std::string_view on_disk) const;  // nullopt: not a snapshot of this node directory
    // Of the directory, beside the snapshots, that a rollback works in; never the name of a snapshot.
    std::string rollback_directory() const { return ".rollback." + prefix_.substr(0, prefix_.size() - 1); }

private:
    std::string prefix_;
};

// The given name of what a node directory was before it was rolled back, "before-rollback-20240531T143005Z", and the time in it; nullopt
// if it isn't such a name.
std::string before_rollback_name(std::int64_t utc_ns);
std::optional<std::int64_t> rolled_back_at(std::string_view given);

// Whether a name can have been made by a SnapshotNaming, of whatever node directory.
bool is_snapshot_name(std::string_view on_disk);
bool is_temporary_snapshot_name(std::string_view on_disk);
std::string without_temporary(const std::string& on_disk);  // the same, as of a snapshot that an operator made

}  // namespace nodesnap

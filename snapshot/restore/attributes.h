// AttributeWriter: gives restored inodes their owner, extended attributes, mode, times and flags, in the order in which one doesn't undo
// the other.
//
// What can't be set is gathered as a warning and doesn't stop the restore. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "platform/file.h"
#include "snapshot/restore/lost.h"
#include "snapshot/restore/owners.h"
#include "snapshot/restore/warnings.h"
#include "snapshot/tree_path.h"

namespace nodesnap {

using PathSource = std::function<std::string()>;  // for messages; called only when there is one

class AttributeWriter {
public:
    AttributeWriter(const Repository& repository, const Manifest& backup, OwnerMap& owners, RestoreWarnings& warnings, RestoreLost& lost)
        : repository_(repository), backup_(backup), owners_(owners), warnings_(warnings), lost_(lost) {}

    // What new files inherit from the directory that they are made in; to be set before the first file.
    void set_inherited_flags(std::uint32_t flags) { inherited_flags_ = flags; }
    // Finds out, with a directory whose times don't matter yet, whether the file system keeps fractions of seconds; before the first file.
    void probe_times(int directory);

    // Takes off a directory what a run that was cut off had given it already, and what files made in it would inherit.
    void before_entries(int directory, const PathSource& path);
    // Flags that must be there before the first byte of data. `fd` is an empty regular file.
    void before_data(int fd, const Inode& inode, const PathSource& path);
    // Takes off a file or directory that was there before what it isn't to have, and what forbids to change it.
    void before_patch(int fd, std::uint64_t ino, const Inode& inode, const PathSource& path);
    static void drop_xattrs_at(int directory, const std::string& name);  // of anything else: all
    // Takes off what forbids to change it, or to change what is in it. True if there was anything.
    static bool unseal(int fd);
    // All but the seal; of a regular file or directory. `xattrs` may be null: then they are looked up.
    void apply(int fd, std::uint64_t ino, const Inode& inode, const std::vector<NamedXattr>* xattrs, const PathSource& path);
    // Of anything else, by name.
    void apply_at(int directory, const std::string& name, std::uint64_t ino, const Inode& inode, const std::vector<NamedXattr>* xattrs,
                  const PathSource& path);

    // Append-only and immutable files can't be linked, and nothing can be made in such directories: the very last thing.
    static bool needs_seal(const Inode& inode);
    void seal(int fd, const Inode& inode, const PathSource& path);

private:
    using SetXattr = std::function<void(const std::string& name, std::span<const std::byte> value)>;
    void check(int error_number, const char* what, const PathSource& path);
    std::uint16_t mode_of(const Inode& inode, bool owned, const PathSource& path);
    bool times_in_doubt(const Inode& inode) const;
    void check_times(const Inode& inode, const FileStatus& found, const PathSource& path);
    void set_flags(int fd, std::uint32_t mask, std::uint32_t wanted, const PathSource& path);
    void set_each_flag(int fd, std::uint32_t mask, std::uint32_t wanted, const PathSource& path);
    void set_xattrs(std::uint64_t ino, const Inode& inode, const std::vector<NamedXattr>* xattrs, const SetXattr& set,
                    const PathSource& path);
    bool read_value(const NamedXattr& xattr, Bytes& value, const PathSource& path);  // false: it is lost, which has been told
    void set_xattr(const NamedXattr& xattr, const SetXattr& set, const PathSource& path);

    const Repository& repository_;
    const Manifest& backup_;
    OwnerMap& owners_;
    RestoreWarnings& warnings_;
    RestoreLost& lost_;
    std::uint32_t inherited_flags_ = 0;
    bool exact_times_ = true;
};

}  // namespace nodesnap

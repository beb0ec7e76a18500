#include "snapshot/diff/inode.h"

namespace nodesnap {
namespace {

// The attributes of one inode, in order of their names.
class XattrCursor {
public:
    XattrCursor(const Repository& repository, const Manifest& backup, std::uint64_t ino)
        : cursor_(repository.nodes(), backup.tree, key::xattr(ino)), ino_(ino) {}
    bool next(std::string& name, Xattr& value) {
        if (!cursor_.next(entry_)) {
            return false;
        }
        const auto parts = key::parse(entry_.key);
        if (parts.ino != ino_ || parts.kind != key::Kind::kXattr) {
            return false;
        }
        name = parts.name;
        value = decode_xattr(entry_.value);
        return true;
    }

private:
    TreeCursor cursor_;
    std::uint64_t ino_;
    TreeEntry entry_;
};

}  // namespace

bool same_file(const Inode& before, const Inode& after) {
    const bool born = before.born == after.born || before.born == Time{} || after.born == Time{};
    return before.type == after.type && before.generation == after.generation && born;
}

InodeChange InodeDiff::compare(const FilePair& files) {
    const Inode& before = files.before;
    const Inode& after = files.after;
    InodeChange result;
    result.content = contents_.compare(before, after);
    const auto add = [&](InodeAttribute attribute, bool differs) { result.attributes |= differs ? attribute : 0U; };
    add(kModeAttribute, before.mode != after.mode);
    add(kOwnerAttribute, before.uid != after.uid || before.gid != after.gid);
    add(kTimesAttribute, times_differ(files, result.content.changed));
    add(kXattrsAttribute, xattrs_differ(files));
    add(kFlagsAttribute, before.flags != after.flags);
    add(kAllocationAttribute, all_ && result.content.allocation);
    add(kLinksAttribute, all_ && before.type != FileType::kDirectory && before.links != after.links);
    return result;
}

bool InodeDiff::times_differ(const FilePair& files, bool content_changed) const {
    const Inode& a = files.before;
    const Inode& b = files.after;
    if (all_) {
        return a.modified != b.modified || a.accessed != b.accessed || a.changed != b.changed || a.born != b.born;
    }
    return !content_changed && a.type != FileType::kDirectory && a.type != FileType::kSymlink && a.modified != b.modified;
}

bool InodeDiff::xattrs_differ(const FilePair& files) {
    if (files.before.xattr_count != files.after.xattr_count) {
        return true;
    }
    if (files.before.xattr_count == 0) {
        return false;
    }
    XattrCursor before(repository_, before_, files.ino_before);
    XattrCursor after(repository_, after_, files.ino_after);
    std::string name_before, name_after;
    Xattr value_before, value_after;
    while (true) {
        const bool more = before.next(name_before, value_before);
        if (more != after.next(name_after, value_after)) {
            return true;
        }
        if (!more) {
            return false;
        }
        if (name_before != name_after || !contents_.equal(value_before, value_after)) {
            return true;
        }
    }
}

}  // namespace nodesnap

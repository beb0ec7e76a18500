#include "snapshot/drain/counterparts.h"

#include <utility>

#include "platform/error.h"
#include "platform/file.h"
#include "snapshot/diff/inode.h"
#include "snapshot/drain/inode_reader.h"

namespace nodesnap {
namespace {

// Both have the same number, on one file system. Where it tells neither generations nor times of birth, a number proves nothing.
bool is_same_inode(const Inode& before, const Inode& now) {
    const bool told = now.generation != 0 || (before.born != Time{} && now.born != Time{});
    return told && same_file(before, now);
}

bool is_same_inode(const Inode& before, int directory, const CloneIndex* clones) {
    try {
        return is_same_inode(before, read_source_inode(directory, true, clones, "").inode);
    } catch (const Error&) {
        return false;  // whoever drains it tells what is the matter
    }
}

bool can_be_compared(const Inode& before) {
    return before.type == FileType::kRegular && !before.damaged && before.run_count != 0;
}

}  // namespace

std::optional<std::uint64_t> Counterparts::directory(const SourceDirectory& directory, std::optional<std::uint64_t> above,
                                                     const std::string& name) const {
    const auto entry = named(above, name);
    const auto by_path = entry && entry->type == FileType::kDirectory ? std::optional(entry->ino) : std::nullopt;
    if (!parent_.same_file_system || by_path == directory.ino) {
        return by_path;
    }
    const auto before = numbered(directory.ino);
    const bool renamed = before && before->type == FileType::kDirectory && is_same_inode(*before, directory.fd.get(), clones_);
    return renamed ? directory.ino : by_path;
}

std::optional<Counterpart> Counterparts::file(const SourceDirectory& directory, const SourceEntry& entry, const Inode& now) const {
    auto by_number = parent_.same_file_system ? numbered(entry.ino) : std::nullopt;
    if (by_number && !can_be_compared(*by_number)) {
        by_number.reset();
    }
    if (by_number && is_same_inode(*by_number, now)) {
        return Counterpart{entry.ino, std::move(*by_number)};
    }
    const auto same_path = named(directory.counterpart, entry.name);
    if (same_path && same_path->type == FileType::kRegular) {
        if (auto by_path = numbered(same_path->ino); by_path && can_be_compared(*by_path)) {
            return Counterpart{same_path->ino, std::move(*by_path)};
        }
    }
    // Perhaps the same, where that can't be proved.
    return by_number && same_file(*by_number, now) ? std::optional(Counterpart{entry.ino, std::move(*by_number)}) : std::nullopt;
}

std::optional<Dirent> Counterparts::named(std::optional<std::uint64_t> directory, const std::string& name) const {
    const auto value = directory ? tree_find(repository_.nodes(), parent_.backup.tree, key::dirent(*directory, name)) : std::nullopt;
    return value ? std::optional(decode_dirent(*value)) : std::nullopt;
}

std::optional<Inode> Counterparts::numbered(std::uint64_t ino) const {
    const auto value = tree_find(repository_.nodes(), parent_.backup.tree, key::inode(ino));
    return value ? std::optional(decode_inode(*value)) : std::nullopt;
}

}  // namespace nodesnap

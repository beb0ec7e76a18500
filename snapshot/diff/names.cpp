#include "snapshot/diff/names.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "snapshot/repository/tree_diff.h"

namespace nodesnap {
namespace {

constexpr std::size_t kByInodeBytes = 8U << 20;
constexpr std::size_t kByNameBytes = 12U << 20;
// Removed names of one inode that are held to be paired with added ones; those beyond are told as removed and added hard links.
constexpr std::size_t kNamesOfInodeBytes = 256U << 10;
// Of both records that are sorted along with a name. Looking inodes up in the order of their paths would come to the same nodes over and
// over.
constexpr std::size_t kCarriedBytes = 1024;

// Sorts a directory before what is in it, and that before the directory's next neighbour. Names hold no zero byte.
std::string sort_key(std::string path) {
    std::replace(path.begin(), path.end(), '/', '\0');
    return path;
}

std::string path_of(std::string_view sort_key) {
    std::string path(sort_key);
    std::replace(path.begin(), path.end(), '\0', '/');
    return path;
}

void append(std::string& bytes, std::uint64_t number) {
    bytes.append(reinterpret_cast<const char*>(&number), sizeof(number));
}

std::uint64_t take_number(std::string_view& bytes) {
    std::uint64_t number = 0;
    std::memcpy(&number, bytes.data(), sizeof(number));
    bytes.remove_prefix(sizeof(number));
    return number;
}

void append_record(std::string& bytes, const Bytes& record) {
    append(bytes, record.size());
    bytes.append(reinterpret_cast<const char*>(record.data()), record.size());
}

Bytes take_record(std::string_view& bytes) {
    const std::uint64_t size = take_number(bytes);
    const auto record = std::as_bytes(std::span(bytes.substr(0, size)));
    bytes.remove_prefix(size);
    return {record.begin(), record.end()};
}

std::string inode_key(std::uint64_t ino, NameChange::Kind kind) {
    return key::inode(ino).substr(0, sizeof(ino)) + static_cast<char>(kind);
}

}  // namespace

NameDiff::NameDiff(const Repository& repository, const Manifest& before, const Manifest& after, bool by_path,
                   const std::string& scratch_directory)
    : repository_(repository),
      before_(before),
      after_(after),
      by_path_(by_path),
      by_inode_(scratch_directory, kByInodeBytes),
      by_name_(scratch_directory, kByNameBytes) {
    if (!by_path_) {
        find_touched();
    }
    if (by_path_ || names_removed_) {
        walk(before_, after_, NameChange::Kind::kRemoved);
    }
    if (by_path_ || any_touched_) {
        walk(after_, before_, NameChange::Kind::kAdded);
    }
    join_by_inode();
}

void NameDiff::find_touched() {
    any_touched_ = names_removed_ = before_.root_ino != after_.root_ino;
    TreeDiff trees(repository_.nodes(), before_.tree, after_.tree);
    TreeChange change;
    while (trees.next(change)) {
        const auto parts = key::parse(change.key);
        switch (parts.kind) {
            case key::Kind::kInode: {
                inodes_.add(parts.ino);
                // Another directory of the same number may hold the same names.
                const bool both = change.before && change.after;
                names_removed_ |= both && !same_file(decode_inode(*change.before), decode_inode(*change.after));
                break;
            }
            case key::Kind::kXattr:
                inodes_.add(parts.ino);
                break;
            case key::Kind::kDirent:
                directories_.add(parts.ino);
                names_removed_ |= change.before.has_value();
                break;
            case key::Kind::kUser:
            case key::Kind::kGroup:
                continue;
        }
        any_touched_ = true;
    }
}

void NameDiff::walk(const Manifest& backup, const Manifest& other, NameChange::Kind kind) {
    TreeWalker walker(repository_, backup, backup.root_ino);
    std::vector<Level> levels;
    TreeStep step;
    while (walker.next(step)) {
        if (step.kind == TreeStep::Kind::kLeave) {
            levels.pop_back();
            continue;
        }
        visit(other, kind, levels.empty() ? nullptr : &levels.back(), walker, step.entry);
        if (step.kind == TreeStep::Kind::kEnter) {
            levels.push_back({step.entry.ino, is_foreign(step.entry)});
        }
    }
}

// `directory` is where the name is; none: it is the node directory.
void NameDiff::visit(const Manifest& other, NameChange::Kind kind, const Level* directory, const TreeWalker& walker,
                     const NamedEntry& entry) {
    if (by_path_) {
        NameChange change;
        change.ino_before = change.ino_after = entry.ino;
        change.kind = kind;
        change.path = walker.path();
        add(change);
    } else if (directory == nullptr
                   ? entry.ino != other.root_ino
                   : directory->foreign || (directories_.may_hold(directory->ino) && !holds_name(other, directory->ino, entry))) {
        by_inode_.add(inode_key(entry.ino, kind), walker.path());
    } else if (kind == NameChange::Kind::kAdded && inodes_.may_hold(entry.ino)) {
        by_inode_.add(inode_key(entry.ino, NameChange::Kind::kSuspect), walker.path());
    }
}

bool NameDiff::is_foreign(const NamedEntry& directory) const {
    if (by_path_ || !inodes_.may_hold(directory.ino)) {
        return false;
    }
    return !records_of(directory.ino).same_file();
}

bool NameDiff::holds_name(const Manifest& backup, std::uint64_t directory, const NamedEntry& entry) const {
    const auto value = tree_find(repository_.nodes(), backup.tree, key::dirent(directory, entry.name));
    return value && decode_dirent(*value).ino == entry.ino;
}

NameDiff::Records NameDiff::records_of(std::uint64_t ino) const {
    return {tree_find(repository_.nodes(), before_.tree, key::inode(ino)), tree_find(repository_.nodes(), after_.tree, key::inode(ino))};
}

bool NameDiff::Records::same_file() const {
    return before && after && nodesnap::same_file(decode_inode(*before), decode_inode(*after));
}

// Pairs removed with added names of one file; which of several belong together nobody knows. Suspects come along for their records' sake.
void NameDiff::join_by_inode() {
    std::string_view key, path;
    std::optional<std::uint64_t> current;
    NameChange change;
    Records records;
    bool same = false;
    std::vector<std::string> removed;  // of the current inode; the last one is taken first
    std::size_t removed_bytes = 0;
    const auto add_change = [&](bool of_before, bool of_after) {
        const bool carried = (records.before ? records.before->size() : 0) + (records.after ? records.after->size() : 0) <= kCarriedBytes;
        change.before = carried && of_before ? records.before.value_or(Bytes()) : Bytes();
        change.after = carried && of_after ? records.after.value_or(Bytes()) : Bytes();
        add(change);
    };
    const auto add_removed = [&](std::string name) {
        change.kind = NameChange::Kind::kRemoved;
        change.path = std::move(name);
        change.hard_link = same;
        add_change(true, false);
    };
    const auto end_inode = [&] {
        for (std::string& name : removed) {
            add_removed(std::move(name));
        }
        removed.clear();
        removed_bytes = 0;
    };
    while (by_inode_.next(key, path)) {
        const std::uint64_t ino = key::parse(std::string(key.substr(0, 8)) + '\0').ino;
        if (ino != current) {
            end_inode();
            current = change.ino_before = change.ino_after = ino;
            records = records_of(ino);
            same = records.same_file();
        }
        const auto kind = static_cast<NameChange::Kind>(key.back());
        if (kind == NameChange::Kind::kRemoved) {
            if (same && removed_bytes + path.size() <= kNamesOfInodeBytes) {
                removed.emplace_back(path);
                removed_bytes += path.size();
            } else {
                add_removed(std::string(path));
            }
            continue;
        }
        change.path = path;
        change.hard_link = false;
        if (kind == NameChange::Kind::kSuspect) {
            change.kind = kind;
        } else if (removed.empty()) {
            change.kind = NameChange::Kind::kAdded;
            change.hard_link = same;
        } else {
            // Where the directory was replaced and the file moved over, its path is what it was.
            const auto same_path = std::find(removed.begin(), removed.end(), path);
            const auto from = same_path != removed.end() ? same_path : removed.end() - 1;
            change.kind = same_path != removed.end() ? NameChange::Kind::kSuspect : NameChange::Kind::kRenamed;
            if (same_path == removed.end()) {
                change.old_path = std::move(*from);
            }
            removed.erase(from);
        }
        add_change(change.kind != NameChange::Kind::kAdded, true);
        change.old_path.clear();
    }
    end_inode();
}

void NameDiff::add(const NameChange& change) {
    std::string value;
    value += static_cast<char>(change.kind);
    value += static_cast<char>(change.hard_link);
    append(value, change.ino_before);
    append(value, change.ino_after);
    append_record(value, change.before);
    append_record(value, change.after);
    value += change.old_path;
    by_name_.add(sort_key(change.path), value);
}

bool NameDiff::next(NameChange& change) {
    std::string_view key, value;
    if (!by_name_.next(key, value)) {
        return false;
    }
    change.path = path_of(key);
    change.kind = static_cast<NameChange::Kind>(value[0]);
    change.hard_link = value[1] != 0;
    value.remove_prefix(2);
    change.ino_before = take_number(value);
    change.ino_after = take_number(value);
    change.before = take_record(value);
    change.after = take_record(value);
    change.old_path = value;
    return true;
}

}  // namespace nodesnap

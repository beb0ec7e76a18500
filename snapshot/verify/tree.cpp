#include "snapshot/verify/tree.h"

#include <bit>
#include <cstring>

#include "platform/error.h"
#include "platform/interrupt.h"

namespace nodesnap {
namespace {

constexpr std::size_t kSorterBytes = 12U << 20;
constexpr std::size_t kParentsBytes = 4U << 20;
constexpr std::uint64_t kInterruptInterval = 1024;

// Tags that follow the inode's number in links_: its own record sorts before the names.
constexpr char kRecord = 0;
constexpr char kName = 1;

std::string big_endian(std::uint64_t number) {
    std::string bytes(8, '\0');
    for (int i = 7; i >= 0; --i, number >>= 8) {
        bytes[static_cast<std::size_t>(i)] = static_cast<char>(number & 0xff);
    }
    return bytes;
}

std::uint64_t from_big_endian(std::string_view bytes) {
    std::uint64_t number = 0;
    for (std::size_t i = 0; i < 8; ++i) {
        number = number << 8 | static_cast<unsigned char>(bytes[i]);
    }
    return number;
}

std::string type_and_number(FileType type, std::uint64_t number) {
    return std::string(1, static_cast<char>(type)) + big_endian(number);
}

// Ends the check of one record.
[[noreturn]] void wrong(const std::string& what) {
    throw Error(ExitStatus::kDamaged, what);
}

bool valid_name(std::string_view name) {
    constexpr std::size_t kNameLimit = 255;
    return !name.empty() && name.size() <= kNameLimit && name != "." && name != ".." && name.find('/') == std::string_view::npos &&
           name.find('\0') == std::string_view::npos;
}

}  // namespace

TreeCheck::TreeCheck(NodeReader& nodes, const Manifest& manifest, std::string object, const std::string& scratch_directory,
                     PackLedger& ledger, Findings& findings, Progress& progress)
    : nodes_(nodes),
      manifest_(manifest),
      object_(std::move(object)),
      scratch_directory_(scratch_directory),
      ledger_(ledger),
      findings_(findings),
      progress_(progress),
      links_(std::make_unique<ExternalSorter>(scratch_directory, kSorterBytes)),
      by_child_(std::make_unique<ExternalSorter>(scratch_directory, kParentsBytes)),
      by_parent_(std::make_unique<ExternalSorter>(scratch_directory, kParentsBytes)) {}

TreeCheck::~TreeCheck() = default;

void TreeCheck::run() {
    if (!walk()) {
        return;  // with a part of the tree missing, what doesn't match means nothing
    }
    match_names();
    check_reachable();
}

void TreeCheck::damaged(std::uint64_t ino, const std::string& what) {
    findings_.add({object_, "inode " + std::to_string(ino) + ": " + what, false});
}

// False if a node of the tree is lost.
bool TreeCheck::walk() {
    TreeEntry entry;
    std::uint64_t entries = 0;
    try {
        TreeCursor cursor(nodes_, manifest_.tree);
        while (cursor.next(entry)) {
            if (++entries % kInterruptInterval == 0) {
                throw_if_interrupted();
            }
            check_entry(entry);
        }
        end_inode();
        return true;
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged) {
            throw;
        }
        findings_.add({object_, "its tree of names: " + error.message(), false});
        findings_.lose_tree(manifest_.id);
        findings_.affect("backup " + manifest_.id.hex() + ": a part of its tree of names is lost; what lies below it can't be told");
        return false;
    }
}

// A record that isn't what it should be is that inode's damage; the walk goes on.
void TreeCheck::check_entry(const TreeEntry& entry) {
    std::uint64_t ino = last_ino_;
    try {
        const key::Parts parts = key::parse(entry.key);
        ino = parts.ino;
        if (parts.kind == key::Kind::kUser || parts.kind == key::Kind::kGroup) {
            decode_owner_name(entry.value);
            return;
        }
        begin_inode(ino);
        switch (parts.kind) {
            case key::Kind::kInode:
                check_inode(ino, entry.value);
                break;
            case key::Kind::kXattr:
                check_xattr(parts.name, entry.value);
                break;
            default:
                check_dirent(parts.name, entry.value);
        }
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged) {
            throw;
        }
        damaged(ino, error.message());
        findings_.lose_file(manifest_.id, ino);
    }
}

void TreeCheck::begin_inode(std::uint64_t ino) {
    if (ino != current_.ino) {
        end_inode();
        current_ = {};
        current_.ino = ino;
        last_ino_ = ino;
    }
}

void TreeCheck::end_inode() {
    if (current_.present && current_.xattrs != current_.xattrs_expected) {
        damaged(current_.ino,
                "it should have " + std::to_string(current_.xattrs_expected) + " attributes, but has " + std::to_string(current_.xattrs));
    }
}

void TreeCheck::check_inode(std::uint64_t ino, const Bytes& value) {
    const Inode inode = decode_inode(value);
    current_.present = true;
    current_.type = inode.type;
    current_.xattrs_expected = inode.xattr_count;
    links_->add(big_endian(ino) + kRecord, type_and_number(inode.type, inode.links));
    progress_.files_done.fetch_add(1, std::memory_order_relaxed);
    if (inode.type == FileType::kRegular) {
        check_map(inode);
    }
}

void TreeCheck::check_map(const Inode& inode) {
    MapCursor cursor(nodes_, inode);
    Run run;
    std::uint64_t runs = 0;
    std::uint64_t end = 0;
    while (cursor.next(run)) {
        if (++runs % kInterruptInterval == 0) {
            throw_if_interrupted();
        }
        const bool has_data = run.flags == Run::kNone;
        if (run.length == 0 || run.end() < run.offset || run.offset < end) {
            wrong("runs of its map overlap");
        }
        if (run.end() > inode.size && (run.flags & Run::kUnwritten) == 0) {
            wrong("its map goes beyond its end");
        }
        end = run.end();
        if (has_data) {
            ledger_.used(run);
        }
    }
    if (runs != inode.run_count) {
        wrong("its map should have " + std::to_string(inode.run_count) + " runs, but has " + std::to_string(runs));
    }
    if (!inode.content.empty() && (runs != 0 || inode.content.size() != inode.size)) {
        wrong("its content doesn't have its size");
    }
}

void TreeCheck::check_xattr(std::string_view name, const Bytes& value) {
    const Xattr xattr = decode_xattr(value);
    if (name.empty()) {
        wrong("an attribute has no name");
    }
    if (!current_.present) {
        wrong("it has attributes, but no record of its own");
    }
    ++current_.xattrs;
    for (const Run& run : xattr.runs) {
        if (run.flags == Run::kNone) {
            ledger_.used(run);
        }
    }
}

void TreeCheck::check_dirent(std::string_view name, const Bytes& value) {
    const Dirent dirent = decode_dirent(value);
    if (!valid_name(name)) {
        wrong("it holds a name that can't be");
    }
    if (current_.present && current_.type != FileType::kDirectory) {
        wrong("it holds names, but isn't a directory");
    }
    const std::uint64_t directory = current_.ino;
    if (!current_.present) {
        damaged(directory, "it holds names, but has no record of its own");
    }
    links_->add(big_endian(dirent.ino) + kName, type_and_number(dirent.type, directory));
    if (dirent.type == FileType::kDirectory && directory != manifest_.root_ino) {
        by_child_->add(big_endian(dirent.ino), big_endian(directory));
        by_parent_->add(big_endian(directory), big_endian(dirent.ino));
        ++parents_;
    }
}

// Merges inodes with the names that lead to them.
void TreeCheck::match_names() {
    struct Group {
        std::uint64_t ino = 0;
        bool record = false;
        FileType type = FileType::kRegular;
        std::uint64_t links = 0;
        std::uint64_t names = 0;
    } group;
    const auto finish = [&] {
        if (group.record) {
            check_names(group.ino, group.names, group.type, group.links);
        }
    };
    bool root_seen = false;
    std::string_view key, value;
    while (links_->next(key, value)) {
        const std::uint64_t ino = from_big_endian(key);
        const auto type = static_cast<FileType>(value[0]);
        const std::uint64_t number = from_big_endian(value.substr(1));
        if (ino != group.ino) {
            finish();
            group = {};
            group.ino = ino;
        }
        if (key[8] == kRecord) {
            group.record = true;
            group.type = type;
            group.links = number;
            root_seen = root_seen || (ino == manifest_.root_ino && type == FileType::kDirectory);
            continue;
        }
        ++group.names;
        if (!group.record) {
            damaged(number, "a name in it leads to inode " + std::to_string(ino) + ", which isn't there");
        } else if (group.type != type) {
            damaged(number, "a name in it leads to inode " + std::to_string(ino) + ", which is of another type");
        }
    }
    finish();
    links_.reset();
    if (!root_seen) {
        damaged(manifest_.root_ino, "the node directory itself isn't there");
    }
}

void TreeCheck::check_names(std::uint64_t ino, std::uint64_t names, FileType type, std::uint64_t links) {
    const bool root = ino == manifest_.root_ino;
    if (root && names != 0) {
        damaged(ino, "the node directory is an entry of a directory in it");
    } else if (!root && names == 0) {
        damaged(ino, "no name leads to it");
    } else if (type == FileType::kDirectory && names > 1) {
        damaged(ino, "a directory has several names");
    } else if (type != FileType::kDirectory && names > links && manifest_.consistency != Consistency::kInconsistent) {
        damaged(ino, "it has " + std::to_string(names) + " names, but only " + std::to_string(links) + " links");
    }
}

// Follows all directories' parents at once, in steps that double: a directory that leads to the root drops out, one in a cycle never does.
void TreeCheck::check_reachable() {
    const int rounds = static_cast<int>(std::bit_width(parents_)) + 1;
    for (int round = 0; parents_ != 0 && round < rounds; ++round) {
        throw_if_interrupted();
        auto next_by_child = std::make_unique<ExternalSorter>(scratch_directory_, kParentsBytes);
        auto next_by_parent = std::make_unique<ExternalSorter>(scratch_directory_, kParentsBytes);
        std::string_view child, ancestor, parent, grandchild;
        bool more = by_child_->next(child, ancestor);
        std::uint64_t left = 0;
        while (by_parent_->next(parent, grandchild)) {
            while (more && child < parent) {
                more = by_child_->next(child, ancestor);
            }
            if (more && child == parent) {
                next_by_child->add(grandchild, ancestor);
                next_by_parent->add(ancestor, grandchild);
                ++left;
            }
        }
        by_child_ = std::move(next_by_child);
        by_parent_ = std::move(next_by_parent);
        parents_ = left;
    }
    if (parents_ != 0) {
        std::string_view child, ancestor;
        by_child_->next(child, ancestor);
        damaged(from_big_endian(child),
                "directories contain each other in a circle; " + std::to_string(parents_) + " of them aren't below the node directory");
    }
}

}  // namespace nodesnap

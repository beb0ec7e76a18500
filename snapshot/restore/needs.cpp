#include "snapshot/restore/needs.h"

#include <algorithm>
#include <functional>
#include <unordered_set>

#include "platform/interrupt.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kMetadataPerInode = 512;
constexpr std::uint64_t kSymlinkInInode = 59;       // bytes of a target that need no block
constexpr std::uint64_t kXattrInInode = 100;        // of an attribute's value, likewise
constexpr std::uint64_t kRunLimit = 1'000'000;      // of one map that is looked at
constexpr std::size_t kLinkedInodeLimit = 200'000;  // remembered to count them once

class Measure {
public:
    Measure(const Repository& repository, const Manifest& backup, const FileSystem& target)
        : repository_(repository),
          backup_(backup),
          block_(std::max<std::uint64_t>(target.block_bytes, 1)),
          packs_small_(target.type == "btrfs") {}

    RestoreNeeds whole();
    RestoreNeeds parts(const RestoreSelection& selection);

private:
    std::uint64_t blocks(std::uint64_t bytes) const { return (bytes + block_ - 1) / block_ * block_; }
    void add_run(const Run& run);
    std::uint64_t space_of_runs(const Inode& inode);
    std::uint64_t space_of_small(const Inode& inode) const;
    void add_xattr(const Xattr& xattr);
    void add_entry(std::uint64_t ino, FileType type, const std::function<std::string()>& path);
    RestoreNeeds result(std::uint64_t space);

    const Repository& repository_;
    const Manifest& backup_;
    const std::uint64_t block_;
    const bool packs_small_;  // what is small lies in the metadata, without blocks of its own
    RestoreNeeds needs_;
    std::uint64_t space_ = 0;
    std::uint64_t run_data_ = 0;     // of the inode in work: bytes with data,
    std::uint64_t run_space_ = 0;    // its blocks,
    std::uint64_t run_counted_ = 0;  // and up to where they are counted
    std::unordered_set<std::uint64_t> linked_;
};

void Measure::add_run(const Run& run) {
    if (run.flags == Run::kDamagedSource) {
        return;
    }
    run_data_ += run.flags == Run::kNone ? run.length : 0;
    const auto begin = std::max(run.offset / block_ * block_, run_counted_);
    run_counted_ = std::max(run_counted_, blocks(run.end()));
    run_space_ += run_counted_ > begin ? run_counted_ - begin : 0;
}

// Of all runs; of a map that is too long to look at, the size. Leaves their data in run_data_.
std::uint64_t Measure::space_of_runs(const Inode& inode) {
    run_data_ = run_space_ = run_counted_ = 0;
    MapCursor cursor(repository_.nodes(), inode);
    Run run;
    for (std::uint64_t runs = 0; cursor.next(run); ++runs) {
        if (runs == kRunLimit) {
            run_data_ = inode.size;
            return blocks(inode.size);
        }
        add_run(run);
    }
    return run_space_;
}

// What isn't in runs.
std::uint64_t Measure::space_of_small(const Inode& inode) const {
    if (inode.type == FileType::kDirectory) {
        return packs_small_ ? 0 : block_;
    }
    const auto bytes = inode.content.size();
    if (packs_small_ || bytes == 0) {
        return bytes;
    }
    return inode.type == FileType::kSymlink && bytes <= kSymlinkInInode ? 0 : blocks(bytes);
}

void Measure::add_xattr(const Xattr& xattr) {
    const auto bytes = std::max<std::uint64_t>(xattr.size, xattr.value.size());
    space_ += packs_small_ || bytes <= kXattrInInode ? bytes : blocks(bytes);
}

// The manifest tells the data; what is rounded up, attributes and allocated ranges come from the records, read in one go.
RestoreNeeds Measure::whole() {
    needs_.files = backup_.totals.files;
    needs_.directories = backup_.totals.directories;
    needs_.inodes = backup_.totals.files + backup_.totals.directories + backup_.totals.others;
    needs_.data_bytes = backup_.totals.data_bytes;
    needs_.incomplete = backup_.damaged ? "the node directory" : "";
    TreeCursor cursor(repository_.nodes(), backup_.tree);
    TreeEntry entry;
    while (cursor.next(entry)) {
        const auto parts = key::parse(entry.key);
        if (parts.kind == key::Kind::kXattr) {
            add_xattr(decode_xattr(entry.value));
        } else if (parts.kind == key::Kind::kInode) {
            throw_if_interrupted();
            const auto inode = decode_inode(entry.value);
            const auto small = space_of_small(inode);
            const auto content = inode.type == FileType::kRegular ? inode.content.size() : 0;
            space_ += small > content ? small - content : 0;
            if (inode.map) {
                space_ += block_;
            } else if (inode.type == FileType::kRegular) {
                const auto runs = space_of_runs(inode);
                space_ += runs > run_data_ ? runs - run_data_ : 0;
            }
        }
    }
    return result(needs_.data_bytes + space_);
}

void Measure::add_entry(std::uint64_t ino, FileType type, const std::function<std::string()>& path) {
    throw_if_interrupted();
    const auto inode = load_inode(repository_, backup_, ino, type);
    if (inode.damaged && needs_.incomplete.empty()) {
        needs_.incomplete = path();
    }
    std::uint64_t share = 1;
    if (inode.links > 1 && type != FileType::kDirectory) {
        if (linked_.contains(ino)) {
            return;
        }
        if (linked_.size() < kLinkedInodeLimit) {
            linked_.insert(ino);
        } else {
            share = inode.links;
        }
    }
    ++needs_.inodes;
    needs_.files += type == FileType::kRegular ? 1 : 0;
    needs_.directories += type == FileType::kDirectory ? 1 : 0;
    space_ += space_of_small(inode) / share;
    if (type == FileType::kRegular) {
        space_ += space_of_runs(inode) / share;
        needs_.data_bytes += (run_data_ + inode.content.size()) / share;
    }
    if (inode.xattr_count != 0) {
        for_each_xattr(repository_, backup_, ino, [this](const NamedXattr& xattr) { add_xattr(xattr.value); });
    }
}

RestoreNeeds Measure::parts(const RestoreSelection& selection) {
    for (const auto& part : selection.parts) {
        auto top = join_path(part.components);
        if (part.type != FileType::kDirectory) {
            add_entry(part.ino, part.type, [&top] { return top; });
            continue;
        }
        TreeWalker walker(repository_, backup_, part.ino);
        TreeStep step;
        while (walker.next(step)) {
            if (step.kind != TreeStep::Kind::kLeave) {
                add_entry(step.kind == TreeStep::Kind::kEnter && step.depth == 0 ? part.ino : step.entry.ino, step.entry.type, [&] {
                    const auto below = walker.path();
                    return below.empty() ? top : std::string(top).append("/").append(below);
                });
            }
        }
    }
    return result(space_);
}

RestoreNeeds Measure::result(std::uint64_t space) {
    needs_.required_bytes = space + needs_.inodes * kMetadataPerInode;
    return needs_;
}

}  // namespace

RestoreNeeds needs_of(const Repository& repository, const Manifest& backup, const RestoreSelection& selection, const FileSystem& target) {
    Measure measure(repository, backup, target);
    return selection.whole() ? measure.whole() : measure.parts(selection);
}

}  // namespace nodesnap

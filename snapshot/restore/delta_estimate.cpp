#include "snapshot/restore/delta_estimate.h"

#include <sys/stat.h>

#include <algorithm>
#include <vector>

#include "platform/error.h"
#include "platform/extent_map.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "snapshot/drain/stored_comparison.h"
#include "snapshot/repository/tree_diff.h"
#include "snapshot/restore/parts.h"
#include "snapshot/restore/trail.h"
#include "snapshot/tree_path.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kChunk = 1U << 20;

std::uint64_t data_in(RestoreParts parts) {
    std::uint64_t bytes = 0;
    RunPart part;
    while (parts.next(part)) {
        bytes += part.run.flags == Run::kNone ? part.length : 0;
    }
    return bytes;
}

std::uint64_t all_of(const Repository& repository, const Inode& inode) {
    return inode.content.size() + data_in(RestoreParts(repository, inode, 0));
}

// Compares files with what is stored of them.
class Comparison {
public:
    explicit Comparison(const Repository& repository) : repository_(repository), chunk_(kChunk) {}

    std::uint64_t differing(const Inode& inode, int fd, const std::string& path) {
        if (!inode.content.empty()) {
            const auto found = std::span(chunk_).first(inode.content.size() + 1);
            const auto length = pread_some(fd, found, 0, path);
            const bool same = length == inode.content.size() && std::equal(inode.content.begin(), inode.content.end(), found.begin());
            return same ? 0 : inode.content.size();
        }
        std::uint64_t bytes = 0;
        StoredComparison stored(repository_, inode);
        RestoreParts parts(repository_, inode, 0);
        RunPart part;
        while (parts.next(part)) {
            if (part.run.flags == Run::kNone) {
                bytes += differing(stored, part.begin(), part.begin() + part.length, fd, path);
            }
        }
        return bytes;
    }

private:
    std::uint64_t differing(StoredComparison& stored, std::uint64_t begin, std::uint64_t end, int fd, const std::string& path) {
        std::uint64_t bytes = 0;
        while (begin != end) {
            throw_if_interrupted();
            const auto data = next_data(fd, begin, end, path);
            bytes += data.begin - begin;
            const auto length = std::min(data.end - data.begin, kChunk - data.begin % kChunk);
            const auto chunk = std::span(chunk_).first(length);
            const auto read = pread_some(fd, chunk, data.begin, path);
            bytes += length - read;
            for (const auto& piece : stored.compare(chunk.first(read), data.begin)) {
                bytes += piece.stored ? 0 : piece.length;
            }
            begin = data.begin + length;
        }
        return bytes;
    }

    const Repository& repository_;
    std::vector<std::byte> chunk_;
};

}  // namespace

std::uint64_t bytes_that_differ(const Repository& repository, const Manifest& backup, const Manifest& before) {
    std::uint64_t bytes = 0;
    TreeDiff trees(repository.nodes(), before.tree, backup.tree);
    TreeChange change;
    while (trees.next(change)) {
        if (key::parse(change.key).kind != key::Kind::kInode || !change.after) {
            continue;
        }
        const auto after = decode_inode(*change.after);
        const auto held = change.before ? decode_inode(*change.before) : Inode{};
        if (after.type != FileType::kRegular) {
            continue;
        }
        const bool patched = held.type == FileType::kRegular && held.content.empty() && after.content.empty();
        const bool same = held.type == FileType::kRegular && !after.content.empty() && held.content == after.content;
        bytes += patched ? data_in(RestoreParts(repository, after, held)) : same ? 0 : all_of(repository, after);
    }
    return bytes;
}

std::uint64_t bytes_that_differ(const Repository& repository, const Manifest& backup, int root) {
    constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
    std::uint64_t bytes = 0;
    Comparison comparison(repository);
    RestoreTrail trail(open_at(root, ".", kDirectory));
    TreeWalker walker(repository, backup, backup.root_ino);
    TreeStep step;
    std::size_t missing = 0;  // levels below the last directory that is there
    while (walker.next(step)) {
        if (step.kind == TreeStep::Kind::kEnter && step.depth != 0) {
            // What is of another type is replaced.
            const auto status = missing == 0 ? stat_at(trail.top()->fd.get(), step.entry.name) : std::nullopt;
            const bool there = status && S_ISDIR(status->stx_mode) && trail.enter(step.entry.name, false) == 0;
            missing += there ? 0 : 1;
        } else if (step.kind == TreeStep::Kind::kLeave && missing != 0) {
            --missing;
        } else if (step.kind == TreeStep::Kind::kLeave && step.depth != 0) {
            trail.leave();
        } else if (step.kind == TreeStep::Kind::kEntry && step.entry.type == FileType::kRegular) {
            const auto inode = load_inode(repository, backup, step.entry.ino, FileType::kRegular);
            const auto status = missing == 0 ? stat_at(trail.top()->fd.get(), step.entry.name) : std::nullopt;
            if (status && S_ISREG(status->stx_mode)) {
                const auto file = open_at(trail.top()->fd.get(), step.entry.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
                bytes += comparison.differing(inode, file.get(), trail.top()->place.path_of(step.entry.name));
            } else {
                bytes += all_of(repository, inode);
            }
        }
    }
    return bytes;
}

}  // namespace nodesnap

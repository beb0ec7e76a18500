#include "snapshot/restore/delta_estimate.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "platform/directory_stream.h"
#include "platform/error.h"
#include "platform/extent_map.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "snapshot/drain/stored_comparison.h"
#include "snapshot/repository/tree_diff.h"
#include "snapshot/restore/file.h"
#include "snapshot/restore/parts.h"
#include "snapshot/restore/trail.h"
#include "snapshot/tree_path.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kChunk = 1U << 20;
constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

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

// Goes down into a directory, if there is one: what is of another type is replaced.
bool enters(RestoreTrail& trail, const std::string& name) {
    const auto status = stat_at(trail.top()->fd.get(), name);
    return status && S_ISDIR(status->stx_mode) && trail.enter(name, false) == 0;
}

bool is_file_name(const std::optional<Bytes>& dirent) {
    return dirent && decode_dirent(*dirent).type == FileType::kRegular;
}

// Counts the names that one side has only.
class Listing {
public:
    Listing(const Repository& repository, const Manifest& backup, int root, const std::vector<std::string>& keep)
        : repository_(repository), backup_(backup), root_(root), keep_(keep) {}

    void wanted() { ++wanted_; }

    void look_through(const OpenDirectory& directory, std::uint64_t ino) {
        DirectoryStream stream(open_at(directory.fd.get(), ".", kDirectory), directory.place.path());
        DirectoryEntry found;
        while (stream.next(found)) {
            const mode_t type = type_of(directory.fd.get(), found);
            const auto stored = tree_find(repository_.nodes(), backup_.tree, key::dirent(ino, found.name));
            if (stored && type == type_bits(decode_dirent(*stored).type)) {
                present_ += type == S_IFREG ? 1 : 0;
            } else if (stored || ino != backup_.root_ino || std::find(keep_.begin(), keep_.end(), found.name) == keep_.end()) {
                foreign(directory.place.whole_path_of(found.name), type);
            }
        }
    }

    DeltaDifference result() const { return {0, wanted_ - std::min(wanted_, present_), 0, removed_}; }

private:
    static mode_t type_of(int directory, const DirectoryEntry& entry) {
        if (entry.d_type != DT_UNKNOWN) {
            return DTTOIF(entry.d_type);
        }
        const auto status = stat_at(directory, entry.name);
        return status ? status->stx_mode & S_IFMT : 0;
    }

    void foreign(const std::string& path, mode_t type) {
        removed_ += type == S_IFREG ? 1 : 0;
        std::vector<std::string> waiting;
        if (type == S_IFDIR) {
            waiting.push_back(path);
        }
        while (!waiting.empty()) {
            throw_if_interrupted();
            const std::string below = std::move(waiting.back());
            waiting.pop_back();
            DirectoryStream stream(open_long(root_, below, kDirectory), below);
            DirectoryEntry found;
            while (stream.next(found)) {
                const mode_t kind = type_of(stream.fd(), found);
                removed_ += kind == S_IFREG ? 1 : 0;
                if (kind == S_IFDIR) {
                    waiting.push_back(below + '/' + found.name);
                }
            }
        }
    }

    const Repository& repository_;
    const Manifest& backup_;
    const int root_;
    const std::vector<std::string>& keep_;
    std::uint64_t wanted_ = 0, present_ = 0, removed_ = 0;
};

}  // namespace

DeltaDifference difference(const Repository& repository, const Manifest& backup, const Manifest& before) {
    DeltaDifference result;
    TreeDiff trees(repository.nodes(), before.tree, backup.tree);
    TreeChange change;
    while (trees.next(change)) {
        throw_if_interrupted();
        if (key::parse(change.key).kind == key::Kind::kDirent) {
            const bool was = is_file_name(change.before);
            const bool is = is_file_name(change.after);
            result.created += !was && is ? 1 : 0;
            result.removed += was && !is ? 1 : 0;
            continue;
        }
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
        const std::uint64_t bytes = patched ? data_in(RestoreParts(repository, after, held)) : same ? 0 : all_of(repository, after);
        result.bytes += bytes;
        if (change.before && held.type == FileType::kRegular && (bytes != 0 || held.size != after.size)) {
            ++result.changed;
        }
    }
    return result;
}

DeltaDifference content_difference(const Repository& repository, const Manifest& backup, int root) {
    DeltaDifference result;
    Comparison comparison(repository);
    RestoreTrail trail(open_at(root, ".", kDirectory));
    TreeWalker walker(repository, backup, backup.root_ino);
    TreeStep step;
    std::size_t missing = 0;  // levels below the last directory that is there
    while (walker.next(step)) {
        if (step.kind == TreeStep::Kind::kEnter && step.depth != 0) {
            missing += missing == 0 && enters(trail, step.entry.name) ? 0 : 1;
        } else if (step.kind == TreeStep::Kind::kLeave && missing != 0) {
            --missing;
        } else if (step.kind == TreeStep::Kind::kLeave && step.depth != 0) {
            trail.leave();
        } else if (step.kind == TreeStep::Kind::kEntry && step.entry.type == FileType::kRegular) {
            const auto inode = load_inode(repository, backup, step.entry.ino, FileType::kRegular);
            const auto status = missing == 0 ? stat_at(trail.top()->fd.get(), step.entry.name) : std::nullopt;
            if (status && S_ISREG(status->stx_mode)) {
                const auto file = open_at(trail.top()->fd.get(), step.entry.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
                const std::uint64_t bytes = comparison.differing(inode, file.get(), trail.top()->place.path_of(step.entry.name));
                result.bytes += bytes;
                result.changed += bytes != 0 || status->stx_size != inode.size ? 1 : 0;
            } else {
                result.bytes += all_of(repository, inode);
            }
        }
    }
    return result;
}

DeltaDifference content_difference(const Repository& repository, const Manifest& backup, int root, const std::vector<std::string>& names) {
    DeltaDifference result;
    Comparison comparison(repository);
    for (const std::string& name : names) {
        const auto stored = tree_find(repository.nodes(), backup.tree, key::dirent(backup.root_ino, name));
        const auto status = is_file_name(stored) ? stat_at(root, name) : std::nullopt;
        if (status && S_ISREG(status->stx_mode)) {
            const auto inode = load_inode(repository, backup, decode_dirent(*stored).ino, FileType::kRegular);
            const auto file = open_at(root, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
            const std::uint64_t bytes = comparison.differing(inode, file.get(), name);
            result.bytes += bytes;
            result.changed += bytes != 0 || status->stx_size != inode.size ? 1 : 0;
        }
    }
    return result;
}

DeltaDifference name_difference(const Repository& repository, const Manifest& backup, int root, const std::vector<std::string>& keep) {
    Listing listing(repository, backup, root, keep);
    RestoreTrail trail(open_at(root, ".", kDirectory));
    TreeWalker walker(repository, backup, backup.root_ino);
    TreeStep step;
    std::size_t missing = 0;  // levels below the last directory that is there
    while (walker.next(step)) {
        throw_if_interrupted();
        if (step.kind == TreeStep::Kind::kEnter) {
            const bool there = step.depth == 0 || (missing == 0 && enters(trail, step.entry.name));
            missing += there ? 0 : 1;
            if (there) {
                listing.look_through(*trail.top(), step.entry.ino);
            }
        } else if (step.kind == TreeStep::Kind::kLeave && missing != 0) {
            --missing;
        } else if (step.kind == TreeStep::Kind::kLeave && step.depth != 0) {
            trail.leave();
        } else if (step.kind == TreeStep::Kind::kEntry && step.entry.type == FileType::kRegular) {
            listing.wanted();
        }
    }
    return listing.result();
}

}  // namespace nodesnap

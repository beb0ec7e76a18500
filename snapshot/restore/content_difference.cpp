#include "snapshot/restore/content_difference.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "platform/error.h"
#include "platform/extent_map.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "snapshot/drain/stored_comparison.h"
#include "snapshot/restore/parts.h"
#include "snapshot/restore/shape.h"
#include "snapshot/restore/trail.h"
#include "snapshot/tree_path.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kChunk = 1U << 20;
constexpr std::uint64_t kBlock = 4096;
constexpr std::size_t kLinkedInodeLimit = 200'000;
constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
constexpr int kFile = O_RDONLY | O_NOFOLLOW | O_NONBLOCK;

// Compares a file with what is stored of it.
class Comparison {
public:
    explicit Comparison(const Repository& repository) : repository_(repository), chunk_(kChunk) {}

    // The bytes that differ.
    std::uint64_t differing(const Inode& inode, int fd, const std::string& path, const DataPart& needed) {
        if (!inode.content.empty()) {
            const auto found = std::span(chunk_).first(inode.content.size() + 1);
            const auto length = pread_some(fd, found, 0, path);
            const bool same = length == inode.content.size() && std::equal(inode.content.begin(), inode.content.end(), found.begin());
            return same ? 0 : inode.content.size();
        }
        std::uint64_t bytes = 0;
        const std::uint64_t size = stat_fd(fd, path).stx_size;
        StoredComparison stored(repository_, inode);
        RestoreParts parts(repository_, inode, 0);
        RunPart part;
        while (parts.next(part)) {
            if (part.run.flags == Run::kNone) {
                bytes += differing(stored, part, fd, size, path, needed);
            }
        }
        return bytes;
    }

private:
    std::uint64_t differing(StoredComparison& stored, const RunPart& part, int fd, std::uint64_t size, const std::string& path,
                            const DataPart& needed) {
        std::uint64_t bytes = 0;
        const auto end = part.begin() + part.length;
        for (auto begin = part.begin(); begin != end;) {
            throw_if_interrupted();
            auto data = next_data(fd, begin, end, path);
            if (data.end == size) {
                data.end = std::min(end, (size + kBlock - 1) / kBlock * kBlock);  // the restore gives it its size first
            }
            const auto length = std::min(data.end - data.begin, kChunk - data.begin % kChunk);
            const auto chunk = std::span(chunk_).first(length);
            const auto read = pread_some(fd, chunk, data.begin, path);
            std::fill(chunk.begin() + static_cast<std::ptrdiff_t>(read), chunk.end(), std::byte{0});
            bytes += data.begin - begin;
            needed(begin, data.begin - begin);
            for (const auto& piece : stored.compare(chunk, data.begin)) {
                if (!piece.stored) {
                    bytes += piece.length;
                    needed(data.begin + piece.from, piece.length);
                }
            }
            begin = data.begin + length;
        }
        return bytes;
    }

    const Repository& repository_;
    std::vector<std::byte> chunk_;
};

struct FoundName {
    int directory = -1;
    const std::string& name;
    std::string path;
    std::optional<FileStatus> status;  // none if it isn't there, or is made anew as a gate file
    bool gate = false;

    bool is_file() const { return status && S_ISREG(status->stx_mode); }
    FileDescriptor open() const { return open_at(directory, name, kFile); }
};

// In place: how many names the directory's files of several names have, as these are removed and given.
class NameCounts {
public:
    void removed(const FileStatus& status) { add(status, -1); }
    void given(const FileStatus& status) { add(status, 1); }
    bool has_one_name(const FileStatus& status) const {
        const auto found = changes_.find(status.stx_ino);
        return static_cast<std::int64_t>(status.stx_nlink) + (found == changes_.end() ? 0 : found->second) == 1;
    }

private:
    void add(const FileStatus& status, std::int64_t names) {
        if (status.stx_nlink > 1 && (changes_.size() < kLinkedInodeLimit || changes_.contains(status.stx_ino))) {
            changes_[status.stx_ino] += names;
        }
    }

    std::unordered_map<std::uint64_t, std::int64_t> changes_;
};

class Contents {
public:
    // `gate_files`: in place; otherwise the files are clones.
    Contents(const Repository& repository, const Manifest& backup, int root, const std::vector<std::string>* gate_files,
             const NeededData& needed)
        : repository_(repository), backup_(backup), root_(root), gate_files_(gate_files), needed_(needed), comparison_(repository) {}

    NameCounts& names() { return names_; }

    DeltaDifference compare() {
        RestoreTrail trail(open_at(root_, ".", kDirectory));
        TreeWalker walker(repository_, backup_, backup_.root_ino);
        TreeStep step;
        std::size_t missing = 0;  // levels below the last directory that is there
        while (walker.next(step)) {
            throw_if_interrupted();
            if (step.kind == TreeStep::Kind::kEnter && step.depth != 0) {
                missing += missing == 0 && trail.enter_if_directory(step.entry.name) ? 0 : 1;
            } else if (step.kind == TreeStep::Kind::kLeave && missing != 0) {
                --missing;
            } else if (step.kind == TreeStep::Kind::kLeave && step.depth != 0) {
                trail.leave();
            } else if (step.kind == TreeStep::Kind::kEntry && step.entry.type == FileType::kRegular) {
                const auto& top = *trail.top();
                const bool gate = trail.depth() == 0 && missing == 0 && is_gate(step.entry.name);
                add(step.entry.ino, {top.fd.get(), step.entry.name, missing == 0 ? top.place.path_of(step.entry.name) : walker.path(),
                                     missing == 0 && !gate ? stat_at(top.fd.get(), step.entry.name) : std::nullopt, gate});
            }
        }
        return result_;
    }

private:
    // An inode of the backup that has several names, of which some have been met.
    struct Linked {
        std::uint64_t names_left = 0;
        std::optional<FileStatus> taken;  // in place: the file that becomes it
    };

    bool in_place() const { return gate_files_ != nullptr; }
    bool is_gate(const std::string& name) const {
        return in_place() && std::find(gate_files_->begin(), gate_files_->end(), name) != gate_files_->end();
    }

    void add(std::uint64_t ino, const FoundName& found) {
        if (const auto known = linked_.find(ino); known != linked_.end()) {
            if (in_place() && found.is_file()) {
                names_.removed(*found.status);
            }
            if (known->second.taken) {
                names_.given(*known->second.taken);
            }
            if (--known->second.names_left == 0) {
                linked_.erase(known);
            }
            return;
        }
        const auto inode = load_inode(repository_, backup_, ino, FileType::kRegular);
        const bool linked = inode.links > 1;
        const bool present = found.is_file() && (in_place() ? takes(inode, found) : true);
        if (linked && linked_.size() < kLinkedInodeLimit) {
            linked_.emplace(ino, Linked{inode.links - 1, in_place() && present ? found.status : std::nullopt});
        }
        count(inode, found, present);
    }

    // In place: whether what is there becomes the file. Otherwise it is made anew.
    bool takes(const Inode& inode, const FoundName& found) {
        const auto& status = *found.status;
        const bool changeable = !changes_cow(found.open().get(), inode);
        if (inode.links > 1) {
            const bool takes = changeable && (status.stx_nlink == 1 || taken_.insert(status.stx_ino).second);
            takes ? names_.given(status) : names_.removed(status);  // the restore links it to a place of its own until the end
            return takes;
        }
        const bool takes = changeable && names_.has_one_name(status);
        if (!takes) {
            names_.removed(status);
        }
        return takes;
    }

    static bool is_regular(const FoundName& found) {
        const auto status = stat_at(found.directory, found.name);
        return status && S_ISREG(status->stx_mode);
    }

    // `present`: what is there is compared.
    void count(const Inode& inode, const FoundName& found, bool present) {
        if (!found.is_file()) {
            // What is lost of a gate file stays as the old one has it.
            const auto old = found.gate && is_regular(found) ? found.open() : FileDescriptor();
            result_.bytes += data_of(repository_, inode, part_of_file(needed_, inode, found.path, old ? old.get() : -1));
            return;
        }
        const auto file = found.open();
        const auto part = part_of_file(needed_, inode, found.path, file.get());
        const bool resized = found.status->stx_size != inode.size;
        // A clone shares no data with what is nodatacow unless both are.
        const bool comparable = present && (in_place() || !inode.content.empty() || !changes_cow(file.get(), inode));
        const std::uint64_t differing =
            comparable ? comparison_.differing(inode, file.get(), found.path, part) : data_of(repository_, inode, part);
        // What lies in the metadata is written to a clone anyway.
        result_.bytes += in_place() ? differing : std::max<std::uint64_t>(differing, inode.content.size());
        result_.changed += resized || differing != 0 ? 1 : 0;
    }

    const Repository& repository_;
    const Manifest& backup_;
    const int root_;
    const std::vector<std::string>* gate_files_;
    const NeededData& needed_;
    Comparison comparison_;
    std::unordered_map<std::uint64_t, Linked> linked_;  // by the number that the backup has of it
    std::unordered_set<std::uint64_t> taken_;           // of the directory's files of several names
    NameCounts names_;
    DeltaDifference result_;
};

// Those that `directory` holds as files, as the backup does: what the backup has of each, and whether it is another here.
void for_each_gate(const Repository& repository, const Manifest& backup, int directory, const std::vector<std::string>& gate_files,
                   const std::function<void(const Inode&, bool differs)>& each) {
    Comparison comparison(repository);
    for (const std::string& name : gate_files) {
        const auto stored = tree_find(repository.nodes(), backup.tree, key::dirent(backup.root_ino, name));
        const FoundName found{directory, name, name, stored ? stat_at(directory, name) : std::nullopt};
        if (found.is_file() && decode_dirent(*stored).type == FileType::kRegular) {
            const auto inode = load_inode(repository, backup, decode_dirent(*stored).ino, FileType::kRegular);
            each(inode, found.status->stx_size != inode.size ||
                            comparison.differing(inode, found.open().get(), name, [](std::uint64_t, std::uint64_t) {}) != 0);
        }
    }
}

}  // namespace

DeltaDifference clone_difference(const Repository& repository, const Manifest& backup, int root, const NeededData& needed) {
    return Contents(repository, backup, root, nullptr, needed).compare();
}

DeltaDifference in_place_difference(const Repository& repository, const Manifest& backup, int root,
                                    const std::vector<std::string>& gate_files, const std::vector<std::string>& keep,
                                    const NeededData& needed) {
    Contents contents(repository, backup, root, &gate_files, needed);
    name_difference(repository, backup, root, keep, [&contents](int directory, const std::string& name) {
        if (const auto status = stat_at(directory, name)) {
            contents.names().removed(*status);
        }
    });
    return contents.compare();
}

std::uint64_t bytes_of_made_gates(const Repository& repository, const Manifest& backup, int content,
                                  const std::vector<std::string>& gate_files) {
    std::uint64_t bytes = 0;
    for_each_gate(repository, backup, content, gate_files, [&](const Inode& inode, bool differs) { bytes += differs ? 0 : inode.size; });
    return bytes;
}

std::uint64_t changed_gates(const Repository& repository, const Manifest& backup, int root, const std::vector<std::string>& gate_files) {
    std::uint64_t changed = 0;
    for_each_gate(repository, backup, root, gate_files, [&](const Inode&, bool differs) { changed += differs ? 1 : 0; });
    return changed;
}

}  // namespace nodesnap

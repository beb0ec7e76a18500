#include "snapshot/verify/affected.h"

#include <algorithm>
#include <optional>

#include "platform/error.h"
#include "platform/interrupt.h"
#include "snapshot/tree_path.h"

namespace nodesnap {
namespace {

struct ByteRange {
    std::uint64_t begin, end;
};

// Of the bytes that a run stands for, those that lie in what is lost of its segments. Without the pack's index all of the run.
ByteRange bytes_of(const Run& run, const LostSegments::Range& lost, const PackIndex* index) {
    if (index == nullptr || std::uint64_t{run.first} + run.count > index->size()) {
        return {run.offset, run.end()};
    }
    std::uint64_t before_first = 0;
    std::uint64_t before_last = 0;
    for (std::uint32_t number = run.first; number < lost.last; ++number) {
        before_first += number < lost.first ? index->segment(number).plain_length : 0;
        before_last += index->segment(number).plain_length;
    }
    const auto in_file = [&](std::uint64_t at) { return run.offset + std::min(at < run.skip ? 0 : at - run.skip, run.length); };
    return {in_file(before_first + lost.from), in_file(before_last + std::min(lost.to, index->segment(lost.last).plain_length))};
}

class AffectedFiles {
public:
    AffectedFiles(Repository& repository, const Manifest& manifest, Findings& findings)
        : repository_(repository), manifest_(manifest), findings_(findings) {}

    void run() {
        TreeWalker walker(repository_, manifest_, manifest_.root_ino);
        TreeStep step;
        while (walker.next(step)) {
            if (step.kind == TreeStep::Kind::kLeave) {
                continue;
            }
            throw_if_interrupted();
            const std::string below = walker.path();
            const std::string path = below.empty() ? "." : below;
            try {
                check(path, step.entry.ino);
            } catch (const Error& error) {
                if (error.status() != ExitStatus::kDamaged) {
                    throw;
                }
                affect(path, "its record or its map is damaged");
            }
        }
    }

    void affect(const std::string& path, const std::string& what) {
        findings_.affect("backup " + manifest_.id.hex() + ", " + path + ", " + what);
    }

private:
    void check(const std::string& path, std::uint64_t ino) {
        if (findings_.is_lost_file(manifest_.id, ino)) {
            affect(path, "its record or its map is damaged");
            return;
        }
        const Inode inode = load_inode(repository_, manifest_, ino);
        pending_.reset();
        if (inode.type == FileType::kRegular) {
            MapCursor cursor(repository_.nodes(), inode);
            for (Run run; cursor.next(run);) {
                check_run(path, run, "bytes ");
            }
            report(path, "bytes ");
        }
        if (inode.xattr_count != 0) {
            check_xattrs(path, ino);
        }
    }

    void check_xattrs(const std::string& path, std::uint64_t ino) {
        TreeCursor cursor(repository_.nodes(), manifest_.tree, key::xattr(ino));
        for (TreeEntry entry; cursor.next(entry);) {
            const key::Parts parts = key::parse(entry.key);
            if (parts.ino != ino || parts.kind != key::Kind::kXattr) {
                break;
            }
            for (const Run& run : decode_xattr(entry.value).runs) {
                check_run(path, run, "an attribute's bytes ");
            }
            report(path, "an attribute's bytes ");
        }
    }

    // Neighbouring ranges are told as one.
    void check_run(const std::string& path, const Run& run, const char* what) {
        if (run.flags != Run::kNone || run.count == 0) {
            return;
        }
        for (const LostSegments::Range& lost : findings_.lost().within(run.pack, run.first, run.first + (run.count - 1))) {
            const ByteRange range = bytes_of(run, lost, index_of(run.pack));
            if (range.begin == range.end) {
                continue;  // what is lost isn't this run's part of the segment
            }
            if (pending_ && pending_->end == range.begin) {
                pending_->end = range.end;
            } else {
                report(path, what);
                pending_ = range;
            }
        }
    }

    void report(const std::string& path, const char* what) {
        if (pending_) {
            affect(path, what + std::to_string(pending_->begin) + " to " + std::to_string(pending_->end - 1));
            pending_.reset();
        }
    }

    const PackIndex* index_of(const PackId& id) {
        try {
            pack_ = repository_.packs().get(layout::PackKind::kData, id);
            return &pack_->index();
        } catch (const Error& error) {
            if (error.status() != ExitStatus::kDamaged && error.error_number() == 0) {
                throw;
            }
            return nullptr;
        }
    }

    Repository& repository_;
    const Manifest& manifest_;
    Findings& findings_;
    std::shared_ptr<const PackReader> pack_;
    std::optional<ByteRange> pending_;
};

}  // namespace

void find_affected_files(Repository& repository, const Manifest& manifest, Findings& findings) {
    AffectedFiles files(repository, manifest, findings);
    try {
        files.run();
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged) {
            throw;
        }
        if (!findings.is_lost_tree(manifest.id)) {
            findings.affect("backup " + manifest.id.hex() + ": not all files can be told: " + error.message());
        }
    }
}

}  // namespace nodesnap

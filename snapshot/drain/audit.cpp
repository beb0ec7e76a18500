#include "snapshot/drain/audit.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <random>
#include <utility>

#include "platform/btrfs.h"
#include "platform/btrfs_tree.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/file_descriptor.h"
#include "platform/interrupt.h"
#include "platform/random.h"
#include "snapshot/backend/snapshot_files.h"
#include "snapshot/drain/stored_comparison.h"
#include "snapshot/run_reader.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kBlock = kChecksumBlock;
constexpr int kEntriesLooked = 64;     // from a random place on, for a file that has runs
constexpr int kFailuresAllowed = 256;  // picks of nothing that could be compared

// Compares ranges of files in the snapshot with what the tree refers to.
class RangeAudit {
public:
    RangeAudit(const AuditedSource& source, const Repository& repository)
        : source_(source), subvolume_(source.files == nullptr ? btrfs::subvolume_id(source.directory) : 0), repository_(repository) {}

    // Empty if it can't be opened: that proves nothing.
    FileDescriptor open(std::uint64_t ino, const Inode& inode) const {
        if (source_.files != nullptr) {
            return source_.files->open(ino, inode.generation);
        }
        constexpr int kFlags = O_RDONLY | O_NOATIME | O_NOFOLLOW;
        return FileDescriptor(std::max(btrfs::try_open_inode(source_.directory, subvolume_, ino, inode.generation, kFlags), -1));
    }

    enum class Outcome {
        kUnknown,  // the snapshot's bytes can't be read
        kSame,
        kDiffers,
        kLost,  // the repository's can't
    };
    // `data` is room for the range.
    // `why`: of kLost.
    Outcome compare(int fd, const Inode& inode, std::span<std::byte> data, std::uint64_t offset, std::string& why) const {
        const auto length = static_cast<off_t>(data.size());
        if (::pread(fd, data.data(), data.size(), static_cast<off_t>(offset)) != length) {
            return Outcome::kUnknown;
        }
        ::posix_fadvise(fd, static_cast<off_t>(offset), length, POSIX_FADV_DONTNEED);
        const auto pieces = StoredComparison(repository_, inode).compare(data, offset);
        const bool same = std::all_of(pieces.begin(), pieces.end(), [](const auto& piece) { return piece.stored.has_value(); });
        return same ? Outcome::kSame : compare_bytes(inode, data, offset, why);
    }

private:
    Outcome compare_bytes(const Inode& inode, std::span<const std::byte> data, std::uint64_t offset, std::string& why) const {
        try {
            std::vector<std::byte> stored(data.size());
            MapReader(repository_, inode, "an audited file").read(stored, offset);
            return std::memcmp(stored.data(), data.data(), data.size()) == 0 ? Outcome::kSame : Outcome::kDiffers;
        } catch (const Error& error) {
            why = error.message();
            return Outcome::kLost;
        }
    }

    const AuditedSource source_;
    const std::uint64_t subvolume_;
    const Repository& repository_;
};

std::string range_text(std::uint64_t ino, std::uint64_t offset, std::uint64_t length) {
    return "inode " + std::to_string(ino) + ", bytes " + std::to_string(offset) + " to " + std::to_string(offset + length - 1);
}

class Sampler {
public:
    Sampler(const AuditedSource& source, const Repository& repository, const TreeRoot& tree, const std::vector<std::uint64_t>& edited)
        : ranges_(source, repository),
          repository_(repository),
          tree_(tree),
          edited_(edited),
          random_(random_u64()),
          last_ino_(last_inode()) {}

    AuditResult run(std::uint64_t bytes, std::uint64_t least, std::int64_t deadline_ns) {
        for (int failures = 0; result_.bytes < bytes && result_.lie.empty() && failures < kFailuresAllowed;) {
            if (result_.bytes >= least && monotonic_ns() >= deadline_ns) {
                break;
            }
            const auto file = pick();
            failures += file && check(file->first, file->second) ? 0 : 1;
        }
        return result_;
    }

private:
    using File = std::pair<std::uint64_t, Inode>;

    std::uint64_t below(std::uint64_t limit) { return std::uniform_int_distribution<std::uint64_t>(0, limit - 1)(random_); }

    // Numbers were given in ascending order; the highest of the tree is found by halving.
    std::uint64_t last_inode() {
        std::uint64_t low = 1;
        std::uint64_t high = ~std::uint64_t{0} - 1;
        while (low < high) {
            const std::uint64_t middle = low + (high - low) / 2 + 1;
            TreeEntry entry;
            TreeCursor cursor(repository_.nodes(), tree_, key::inode(middle));
            if (cursor.next(entry)) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        return low;
    }

    std::optional<File> pick() {
        if (!edited_.empty() && below(2) == 0) {
            const std::uint64_t ino = edited_[below(edited_.size())];
            const auto value = tree_find(repository_.nodes(), tree_, key::inode(ino));
            return value ? std::optional(File(ino, decode_inode(*value))) : std::nullopt;
        }
        TreeCursor cursor(repository_.nodes(), tree_, key::inode(1 + below(last_ino_)));
        TreeEntry entry;
        for (int looked = 0; looked < kEntriesLooked && cursor.next(entry); ++looked) {
            const auto parts = key::parse(entry.key);
            if (parts.kind == key::Kind::kInode) {
                Inode inode = decode_inode(entry.value);
                if (inode.run_count != 0 && !inode.damaged) {
                    return File(parts.ino, std::move(inode));
                }
            }
        }
        return std::nullopt;
    }

    // False if nothing could be compared.
    bool check(std::uint64_t ino, const Inode& inode) {
        if (inode.run_count == 0 || inode.size == 0) {
            return false;
        }
        const std::uint64_t at = below(inode.size) / kBlock * kBlock;
        MapCursor map(repository_.nodes(), inode, at);
        Run run;
        if (!map.next(run) || run.flags != Run::kNone) {
            return false;
        }
        const std::uint64_t begin = std::max(run.offset, at);
        const std::uint64_t length = std::min({run.end() - begin, kBlock - begin % kBlock, inode.size - begin});
        const FileDescriptor file = ranges_.open(ino, inode);
        const std::span<std::byte> data(block_.data(), length);
        std::string why;
        const auto outcome = file ? ranges_.compare(file.get(), inode, data, begin, why) : RangeAudit::Outcome::kUnknown;
        if (outcome == RangeAudit::Outcome::kLost && result_.lost.empty()) {
            result_.lost = range_text(ino, begin, length) + ": " + why;
        }
        if (outcome == RangeAudit::Outcome::kUnknown || outcome == RangeAudit::Outcome::kLost) {
            return false;
        }
        result_.bytes += length;
        if (outcome == RangeAudit::Outcome::kDiffers) {
            result_.lie = range_text(ino, begin, length);
        }
        return true;
    }

    const RangeAudit ranges_;
    const Repository& repository_;
    const TreeRoot tree_;
    const std::vector<std::uint64_t>& edited_;
    std::mt19937_64 random_;
    const std::uint64_t last_ino_;
    std::array<std::byte, kBlock> block_{};
    AuditResult result_;
};

// Goes through all files, in pieces that hold data in the snapshot or in the tree.
class WholeAudit {
public:
    WholeAudit(const AuditedSource& source, const Repository& repository, const TreeRoot& tree, Progress& progress, Report& report)
        : ranges_(source, repository), repository_(repository), tree_(tree), progress_(progress), report_(report), data_(kPiece) {}

    AuditResult run() {
        TreeCursor cursor(repository_.nodes(), tree_);
        for (TreeEntry entry; cursor.next(entry);) {
            interrupt::throw_if_interrupted();
            const auto parts = key::parse(entry.key);
            if (parts.kind != key::Kind::kInode) {
                continue;
            }
            const Inode inode = decode_inode(entry.value);
            if (inode.type == FileType::kRegular && !inode.damaged) {
                check(parts.ino, inode);
            }
        }
        if (lies_ > 1) {
            result_.lie += ", and " + std::to_string(lies_ - 1) + " further ranges";
        }
        if (lost_ > 1) {
            result_.lost += ", and " + std::to_string(lost_ - 1) + " further ranges";
        }
        return std::move(result_);
    }

private:
    static constexpr std::uint64_t kPiece = kSegmentLimit;

    void check(std::uint64_t ino, const Inode& inode) {
        const FileDescriptor file = ranges_.open(ino, inode);
        for (std::uint64_t at = 0; file && at < inode.size;) {
            at = next_data(file.get(), inode, at);
            if (at >= inode.size) {
                break;
            }
            const std::uint64_t length = std::min(kPiece - at % kPiece, inode.size - at);
            check_piece(file.get(), ino, inode, at, length);
            at += length;
        }
    }

    // Where something is, at or behind `from`: in the snapshot or in the tree.
    std::uint64_t next_data(int fd, const Inode& inode, std::uint64_t from) const {
        const off_t found = ::lseek(fd, static_cast<off_t>(from), SEEK_DATA);
        std::uint64_t next = found < 0 ? inode.size : static_cast<std::uint64_t>(found);
        Run run;
        for (MapCursor map(repository_.nodes(), inode, from); map.next(run);) {
            if (run.flags == Run::kNone) {
                next = std::min(next, std::max(run.offset, from));
                break;
            }
        }
        return next;
    }

    void check_piece(int fd, std::uint64_t ino, const Inode& inode, std::uint64_t offset, std::uint64_t length) {
        const std::span<std::byte> data(data_.data(), length);
        std::string why;
        const auto outcome = ranges_.compare(fd, inode, data, offset, why);
        if (outcome == RangeAudit::Outcome::kLost) {
            result_.lost = result_.lost.empty() ? range_text(ino, offset, length) + ": " + why : result_.lost;
            ++lost_;
            return;
        }
        if (outcome == RangeAudit::Outcome::kUnknown) {
            report_.warn("not audited, since it could not be read: " + range_text(ino, offset, length));
            return;
        }
        result_.bytes += length;
        progress_.bytes_done.fetch_add(length, std::memory_order_relaxed);
        if (outcome == RangeAudit::Outcome::kDiffers) {
            const std::string range = range_text(ino, offset, length);
            report_.warn("called unchanged, but differs: " + range);
            if (++lies_ == 1) {
                result_.lie = range;
            }
        }
    }

    const RangeAudit ranges_;
    const Repository& repository_;
    const TreeRoot tree_;
    Progress& progress_;
    Report& report_;
    std::vector<std::byte> data_;
    std::uint64_t lies_ = 0;
    std::uint64_t lost_ = 0;  // ranges
    AuditResult result_;
};

}  // namespace

AuditResult audit_everything(const AuditedSource& source, const Repository& repository, const TreeRoot& tree, Progress& progress,
                             Report& report) {
    return tree.node ? WholeAudit(source, repository, tree, progress, report).run() : AuditResult{};
}

AuditResult audit(const AuditedSource& source, const Repository& repository, const TreeRoot& tree, std::uint64_t data_bytes,
                  const std::vector<std::uint64_t>& edited, const AuditLimits& limits) {
    if (!tree.node) {
        return {};
    }
    const std::uint64_t bytes = std::clamp(data_bytes / limits.share, limits.least_bytes, limits.most_bytes);
    const std::int64_t deadline_ns = monotonic_ns() + limits.nanoseconds;
    return Sampler(source, repository, tree, edited).run(std::min(bytes, data_bytes), limits.least_bytes, deadline_ns);
}

}  // namespace nodesnap

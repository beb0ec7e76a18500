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
#include "platform/random.h"
#include "snapshot/drain/stored_comparison.h"
#include "snapshot/run_reader.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kBlock = kChecksumBlock;
constexpr int kEntriesLooked = 64;     // from a random place on, for a file that has runs
constexpr int kFailuresAllowed = 256;  // picks of nothing that could be compared

class Auditor {
public:
    Auditor(int source, const Repository& repository, const TreeRoot& tree, const std::vector<std::uint64_t>& edited)
        : source_(source),
          subvolume_(btrfs::subvolume_id(source)),
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
        const FileDescriptor file(
            std::max(btrfs::try_open_inode(source_, subvolume_, ino, inode.generation, O_RDONLY | O_NOATIME | O_NOFOLLOW), -1));
        const std::span<std::byte> data(block_.data(), length);
        if (!file || ::pread(file.get(), data.data(), data.size(), static_cast<off_t>(begin)) != static_cast<ssize_t>(length)) {
            return false;
        }
        ::posix_fadvise(file.get(), static_cast<off_t>(begin), static_cast<off_t>(length), POSIX_FADV_DONTNEED);
        result_.bytes += length;
        const auto pieces = StoredComparison(repository_, inode).compare(data, begin);
        const bool same = std::all_of(pieces.begin(), pieces.end(), [](const auto& piece) { return piece.stored.has_value(); });
        if (!same && differs(inode, data, begin)) {
            result_.lie = "inode " + std::to_string(ino) + ", bytes " + std::to_string(begin) + " to " + std::to_string(begin + length - 1);
        }
        return true;
    }

    // Not where the repository can't tell.
    bool differs(const Inode& inode, std::span<const std::byte> data, std::uint64_t offset) {
        try {
            std::vector<std::byte> stored(data.size());
            MapReader(repository_, inode, "an audited file").read(stored, offset);
            return std::memcmp(stored.data(), data.data(), data.size()) != 0;
        } catch (const Error&) {
            return false;
        }
    }

    const int source_;
    const std::uint64_t subvolume_;
    const Repository& repository_;
    const TreeRoot tree_;
    const std::vector<std::uint64_t>& edited_;
    std::mt19937_64 random_;
    const std::uint64_t last_ino_;
    std::array<std::byte, kBlock> block_{};
    AuditResult result_;
};

}  // namespace

AuditResult audit(int source, const Repository& repository, const TreeRoot& tree, std::uint64_t data_bytes,
                  const std::vector<std::uint64_t>& edited, const AuditLimits& limits) {
    if (!tree.node) {
        return {};
    }
    const std::uint64_t bytes = std::clamp(data_bytes / limits.share, limits.least_bytes, limits.most_bytes);
    const std::int64_t deadline_ns = monotonic_ns() + limits.nanoseconds;
    return Auditor(source, repository, tree, edited).run(std::min(bytes, data_bytes), limits.least_bytes, deadline_ns);
}

}  // namespace nodesnap

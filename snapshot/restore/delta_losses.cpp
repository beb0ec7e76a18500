#include "snapshot/restore/delta_losses.h"

#include <fcntl.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "platform/btrfs.h"
#include "platform/btrfs_tree.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "snapshot/restore/basis.h"
#include "snapshot/restore/kept.h"
#include "snapshot/run_reader.h"

namespace nodesnap {
namespace {

FileDescriptor open_held(int snapshot_root, const std::string& path) {
    if (snapshot_root < 0 || path.front() != kHeldLetter) {
        return {};
    }
    const auto ino = std::stoull(path.substr(1));
    const int fd = btrfs::try_open_inode(snapshot_root, btrfs::subvolume_id(snapshot_root), ino, 0, O_RDONLY | O_NOFOLLOW);
    return FileDescriptor(std::max(fd, -1));
}

void read(MapReader& reader, std::span<std::byte> into, std::uint64_t offset) {
    try {
        reader.read(into, offset);
    } catch (const Error& error) {
        if (!is_loss(error)) {
            throw;
        }
        throw Error{error.status(), error.message(),
                    "mend the repository; --dry-run with --accept-incomplete tells all that is lost, and what would stand for it",
                    error.error_number()};
    }
}

}  // namespace

NeededData losses_of_delta(const Repository& repository, RestoreLost& lost, int snapshot_root) {
    const auto chunk = std::make_shared<std::vector<std::byte>>(kReadLimit);
    return [&repository, &lost, snapshot_root, chunk](const Inode& inode, const std::string& path, int present, std::uint64_t begin,
                                                      std::uint64_t length) {
        const FileDescriptor held = open_held(snapshot_root, path);
        std::vector<KeptBytes> kept;
        LossSink sink;
        if (lost.accepted()) {
            sink = [&](std::uint32_t, std::uint64_t offset, std::uint64_t bytes) {
                take_present(lost, path, held ? held.get() : present, {0, offset, bytes}, kept);
                kept.clear();
            };
        }
        MapReader reader(repository, inode, path, sink);
        for (const auto end = begin + length; begin < end;) {
            throw_if_interrupted();
            const auto part = std::min<std::uint64_t>(end - begin, chunk->size());
            read(reader, std::span(*chunk).first(part), begin);
            begin += part;
        }
    };
}

}  // namespace nodesnap

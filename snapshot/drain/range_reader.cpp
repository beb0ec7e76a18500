#include "snapshot/drain/range_reader.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "io/transfer.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "snapshot/backend/clone_index.h"
#include "snapshot/drain/inode_reader.h"
#include "snapshot/drain/stored_comparison.h"

namespace nodesnap {

RangeReader::RangeReader(DrainState& state, Ring& ring, PackStream& packs)
    : state_(state), ring_(ring), packs_(packs), comparing_(ring, kComparing) {}

Task<std::int64_t> RangeReader::read_content(int fd, std::span<std::byte> into, std::uint64_t offset, std::uint64_t file_size) {
    std::uint64_t done = 0;
    while (done < into.size() && offset + done < file_size) {
        const auto piece = into.subspan(done).first(std::min<std::uint64_t>(into.size() - done, state_.read_throttle.smooth_bytes()));
        co_await pace(ring_, state_.read_throttle, std::min<std::uint64_t>(piece.size(), file_size - offset - done));
        const std::int64_t got = co_await read_aligned(fd, piece, offset + done, file_size);
        if (got < 0) {
            co_return got;
        }
        done += static_cast<std::uint64_t>(got);
        if (static_cast<std::uint64_t>(got) < piece.size()) {
            break;  // the end of the file
        }
    }
    co_return static_cast<std::int64_t>(done);
}

// Some file systems take O_DIRECT at the open, but want a larger alignment than ours at the read.
Task<std::int64_t> RangeReader::read_aligned(int fd, std::span<std::byte> into, std::uint64_t offset, std::uint64_t file_size) {
    std::int64_t got = co_await read_full(ring_, fd, into, offset, file_size);
    if (got == -EINVAL && clear_status_flag(fd, O_DIRECT)) {
        got = co_await read_full(ring_, fd, into, offset, file_size);
    }
    co_return got;
}

Task<std::vector<Run>> RangeReader::read(int fd, FileRange range, std::uint64_t file_size, std::string path,
                                         const std::optional<Inode>& stored) {
    if (stored) {
        const auto turn = co_await comparing_.acquire();
        auto memory = take_scratch();
        const std::size_t room = (range.length + kPackAlignment - 1) / kPackAlignment * kPackAlignment;
        const std::int64_t got = co_await read_content(fd, {memory.get(), room}, range.offset, file_size);
        if (got >= static_cast<std::int64_t>(range.length)) {
            auto runs = co_await store_differences({memory.get(), range.length}, range.offset, *stored);
            scratch_.push_back(std::move(memory));
            state_.read_bytes += range.length;
            state_.progress.bytes_done.fetch_add(range.length, std::memory_order_relaxed);
            co_return runs;
        }
        scratch_.push_back(std::move(memory));
    }
    auto reservation = co_await packs_.reserve(range.length);
    co_return co_await read_segment(fd, range, file_size, std::move(path), std::move(reservation));
}

Task<std::vector<Run>> RangeReader::store_differences(std::span<const std::byte> data, std::uint64_t offset, const Inode& stored) {
    std::vector<Run> runs;
    StoredComparison comparison(state_.repository, stored, state_.parent->distrusted, state_.options.stores_whole_blocks);
    for (const auto& piece : comparison.compare(data, offset)) {
        if (piece.stored) {
            runs.push_back(*piece.stored);
            continue;
        }
        auto reservation = co_await packs_.reserve(piece.length);
        std::memcpy(reservation.room.data(), data.data() + piece.from, piece.length);
        state_.new_bytes += piece.length;
        Run run;
        run.offset = offset + piece.from;
        run.length = piece.length;
        run.pack = reservation.pack;
        run.first = reservation.number;
        run.count = 1;
        runs.push_back(run);
        packs_.filled(std::move(reservation));
    }
    co_return runs;
}

RangeReader::Scratch RangeReader::take_scratch() {
    if (scratch_.empty()) {
        return Scratch(static_cast<std::byte*>(::operator new (kSegmentLimit, std::align_val_t{kPackAlignment})));
    }
    Scratch memory = std::move(scratch_.back());
    scratch_.pop_back();
    return memory;
}

Task<std::vector<Run>> RangeReader::read_segment(int fd, FileRange range, std::uint64_t file_size, std::string path,
                                                 PackStream::Reservation reservation) {
    const std::int64_t got = co_await read_content(fd, reservation.room, range.offset, file_size);
    std::vector<Run> runs;
    if (got >= static_cast<std::int64_t>(range.length)) {
        Run run;
        run.offset = range.offset;
        run.length = range.length;
        run.pack = reservation.pack;
        run.first = reservation.number;
        run.count = 1;
        runs.push_back(run);
        state_.read_bytes += range.length;
        state_.new_bytes += range.length;
    } else {
        fell_short(fd, path, got);
        runs = co_await salvage(fd, range, file_size, reservation);
    }
    fault::step("drain.range-read");
    packs_.filled(std::move(reservation));
    state_.progress.bytes_done.fetch_add(range.length, std::memory_order_relaxed);
    co_return runs;
}

// Reads page by page what can be read, leaves zeros elsewhere and marks those parts damaged.
Task<std::vector<Run>> RangeReader::salvage(int fd, FileRange range, std::uint64_t file_size, PackStream::Reservation reservation) {
    std::vector<Run> runs;
    std::memset(reservation.room.data(), 0, reservation.room.size());
    for (std::uint32_t at = 0; at < range.length; at += kPackAlignment) {
        const auto length = std::min<std::uint32_t>(kPackAlignment, range.length - at);
        const std::int64_t got = co_await read_content(fd, reservation.room.subspan(at, kPackAlignment), range.offset + at, file_size);
        const bool good = got >= static_cast<std::int64_t>(length);
        if (!good) {
            std::memset(reservation.room.data() + at, 0, kPackAlignment);
        }
        const std::uint32_t flags = good ? Run::kNone : Run::kDamagedSource;
        if (!runs.empty() && runs.back().flags == flags) {
            runs.back().length += length;
            continue;
        }
        Run run;
        run.offset = range.offset + at;
        run.length = length;
        run.flags = flags;
        if (good) {
            run.pack = reservation.pack;
            run.first = reservation.number;
            run.skip = at;
            run.count = 1;
        }
        runs.push_back(run);
    }
    co_return runs;
}

namespace {

Error changed_while_read(const std::string& path) {
    return Error::failed("file changed while it was read: " + path,
                         "stop the daemon before a backup without snapshots, or keep the node directory on btrfs");
}

}  // namespace

// A read gave an error, or another length than the file had: a live one has been changed. A snapshot's can't be, so that is told like a
// failing disk.
void RangeReader::fell_short(int fd, const std::string& path, std::int64_t got) {
    if (state_.options.clones != nullptr) {
        state_.options.clones->check_link(fd, path);  // but that of a link can
    }
    if (got >= 0 && state_.options.source_is_live && !state_.options.tolerate_changes && !state_.options.is_warm_pass) {
        throw changed_while_read(path);
    }
    state_.unreadable(path, Error::system("read from", path, got < 0 ? static_cast<int>(-got) : ENODATA));
}

void RangeReader::check_unchanged(int fd, const Inode& before, const std::string& path) {
    if (state_.options.clones != nullptr) {
        state_.options.clones->check_link(fd, path);
        return;
    }
    if (!state_.options.source_is_live || state_.options.tolerate_changes || state_.options.is_warm_pass) {
        return;
    }
    const Inode now = inode_of(stat_fd(fd, path));
    if (now.size != before.size || now.modified != before.modified || now.changed != before.changed) {
        throw changed_while_read(path);
    }
}

}  // namespace nodesnap

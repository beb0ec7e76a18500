#include "snapshot/drain/drain_worker.h"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "io/transfer.h"
#include "platform/btrfs_tree.h"
#include "platform/fault.h"
#include "platform/inode_flags.h"
#include "platform/interrupt.h"
#include "snapshot/backend/clone_index.h"
#include "snapshot/drain/file_extents.h"
#include "snapshot/drain/source_walk.h"
#include "snapshot/drain/taken_over.h"
#include "snapshot/drain/unchanged_file.h"

namespace nodesnap {

// Told to the queue when the last entry is done, so that the other workers know that no more large files come from it.
struct DrainWorker::BatchInProgress {
    BatchInProgress(WorkQueue& queue_, std::unique_ptr<Batch> batch_) : queue(queue_), batch(std::move(batch_)) {}
    BatchInProgress(const BatchInProgress&) = delete;
    BatchInProgress& operator=(const BatchInProgress&) = delete;
    ~BatchInProgress() { queue.batch_done(); }
    WorkQueue& queue;
    std::unique_ptr<Batch> batch;
    std::size_t next = 0;
};

struct DrainWorker::ChunkInProgress {
    ChunkInProgress(std::shared_ptr<LargeFile> file_, std::vector<FileRange> ranges_)
        : file(std::move(file_)), ranges(std::move(ranges_)) {}
    ChunkInProgress(const ChunkInProgress&) = delete;
    ChunkInProgress& operator=(const ChunkInProgress&) = delete;
    ~ChunkInProgress() = default;
    std::shared_ptr<LargeFile> file;
    std::vector<FileRange> ranges;
    std::size_t next = 0;
    std::size_t done = 0;
};

// The source can't be read: what --skip-unreadable may go on without. Everything else that fails ends the drain.
class DrainWorker::SourceError : public Error {
public:
    explicit SourceError(const Error& error) : Error(error) {}
};

template <typename Read>
auto DrainWorker::read_source(Read read) {
    try {
        return read();
    } catch (const Error& error) {
        throw SourceError(error);
    }
}

class DrainWorker::ActiveUnit {
public:
    explicit ActiveUnit(std::size_t& active) : active_(active) { ++active_; }
    ActiveUnit(const ActiveUnit&) = delete;
    ActiveUnit& operator=(const ActiveUnit&) = delete;
    ~ActiveUnit() { --active_; }

private:
    std::size_t& active_;
};

namespace {

// A checkpoint is a sealed pack; what all workers have not sealed yet is read again after an interruption.
constexpr std::uint64_t kCheckpointBytes = 256ULL << 20;

std::optional<Inode> record_of(std::optional<Counterpart> stored) {
    return stored ? std::optional(std::move(stored->record)) : std::nullopt;
}

std::uint64_t pack_bytes(const DrainOptions& options, unsigned workers) {
    return std::min(options.sizes.data_pack_bytes, kCheckpointBytes / workers);
}

std::function<void()> log_hook(DrainState& state) {
    return state.options.begin_journal ? [&state] { state.begin_journal(); } : std::function<void()>();
}

}  // namespace

DrainWorker::DrainWorker(DrainState& state, unsigned index, unsigned workers)
    : state_(state),
      index_(index),
      workers_(workers),
      units_(state.units_in_flight(workers)),
      ring_(Ring::Options{.entries = 256, .force_blocking = state.options.force_blocking}),
      buffers_(ring_, BufferPool::Options{.count = std::max<std::size_t>(4, kAllBuffers / workers)}),
      packs_(PackStream::Environment{ring_, buffers_, state.repository.target(), state.repository.info().uuid, state.repository.hasher(),
                                     state.write_throttle, pack_bytes(state.options, workers), [&state] { return state.next_pack_id(); },
                                     state.options.still_ours, log_hook(state), [&state] { return state.checkpoint_interval(); }}),
      reader_(state, ring_, packs_) {
    if (!ring_.uses_io_uring()) {
        state_.set_fallback_reason(ring_.fallback_reason());
    }
}

DrainWorker::~DrainWorker() {
    ring_.abandon();
}

void DrainWorker::run() {
    for (bool more = true; more;) {
        interrupt::throw_if_interrupted();
        state_.check_time();
        if (state_.queue.aborted()) {
            return;
        }
        // Counted, since without io_uring each unit is done before the next starts.
        for (std::size_t started = 0; started < units_ && active_ < units_ && start_next(false); ++started) {
        }
        if (ring_.idle()) {
            more = start_next(true);
        }
        ring_.step();
    }
    if (state_.queue.aborted()) {
        return;
    }
    state_.end_reading(workers_);
    ring_.run();
    ring_.wait(packs_.finish());
    state_.add_packs(packs_.sealed_packs());
    state_.stored_bytes += packs_.stored_bytes();
}

bool DrainWorker::take_item(bool wait) {
    WorkItem item = state_.queue.pop(index_, wait);
    if (item.batch && batch_) {  // others took the files meanwhile
        state_.queue.push_front(std::move(item.batch));
    } else if (item.batch) {
        batch_ = std::make_shared<BatchInProgress>(state_.queue, std::move(item.batch));
    } else if (item.file) {
        auto ranges = next_ranges(*item.file);
        state_.queue.put_back(item.file->exhausted() ? nullptr : item.file);
        if (!ranges.empty()) {
            chunk_ = std::make_shared<ChunkInProgress>(std::move(item.file), std::move(ranges));
        }
    }
    return batch_ || chunk_ || item.file;
}

std::vector<FileRange> DrainWorker::next_ranges(LargeFile& file) {
    try {
        return file.next_chunk();
    } catch (const StoredMapError&) {
        throw;
    } catch (const Error& error) {
        state_.unreadable(file.path(), error);
        file.read_without_map([this, &file](LargeFile::NextExtent rest) { return not_stored_yet(state_, file.ino(), std::move(rest)); });
        return file.next_chunk();
    }
}

// Starts the next file or range. False if there is none (now).
bool DrainWorker::start_next(bool wait) {
    // Who holds a batch never waits: the others wait for its end.
    if (!chunk_ && (!batch_ || state_.queue.many_files()) && !take_item(wait && !batch_)) {
        return false;
    }
    if (chunk_) {
        const auto chunk = chunk_;
        const FileRange range = chunk->ranges[chunk->next++];
        if (chunk->next == chunk->ranges.size()) {
            chunk_.reset();
        }
        ring_.spawn(drain_range(chunk, range));
    } else if (batch_) {
        const auto batch = batch_;
        const std::size_t index = batch->next++;
        if (batch->next == batch->batch->entries.size()) {
            batch_.reset();
        }
        ring_.spawn(drain_entry(batch, index));
    }
    return true;
}

Task<void> DrainWorker::drain_entry(std::shared_ptr<BatchInProgress> batch, std::size_t index) {
    const ActiveUnit unit(active_);
    const SourceDirectory& directory = *batch->batch->directory;
    const SourceEntry& entry = batch->batch->entries[index];
    const std::string path = directory.place.path_of(entry.name);
    try {
        if (entry.d_type == DT_REG) {
            co_await drain_file(directory, entry, path);
        } else {
            co_await drain_other(directory, entry, path);
        }
    } catch (const SourceError& error) {
        add_placeholder(entry, path, error);
    }
}

Task<std::int64_t> DrainWorker::open_entry(const SourceDirectory& directory, const SourceEntry& entry, int flags) {
    if (!directory.fd) {
        co_return btrfs::try_open_inode(state_.source, state_.subvolume, entry.ino, entry.generation, flags);
    }
    if (entry.d_type == DT_REG && state_.options.clones != nullptr && state_.options.clones->is_nameless()) {
        co_return state_.options.clones->try_open(directory.fd.get(), entry.name, flags);
    }
    co_return co_await ring_.open_at(directory.fd.get(), entry.name.c_str(), flags);
}

Task<std::int64_t> DrainWorker::open_source(const SourceDirectory& directory, const SourceEntry& entry) {
    // In a live directory a FIFO may have taken the file's place: opening it must not wait for a writer.
    const int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | (state_.options.source_is_live ? O_NONBLOCK : 0);
    std::int64_t fd = co_await open_entry(directory, entry, flags | O_DIRECT | O_NOATIME);
    if (fd == -EPERM) {  // not the owner
        fd = co_await open_entry(directory, entry, flags | O_DIRECT);
    }
    if (fd == -EINVAL) {  // no O_DIRECT here
        fd = co_await open_entry(directory, entry, flags);
    }
    if (fd >= 0 && state_.options.source_is_live) {
        clear_status_flag(static_cast<int>(fd), O_NONBLOCK);  // io_uring answers EAGAIN for a device that is busy, again and again
    }
    co_return fd;
}

Task<void> DrainWorker::drain_file(const SourceDirectory& directory, const SourceEntry& entry, std::string path) {
    if (state_.earlier && state_.earlier->holds(entry.ino)) {
        skip_file();
        co_return;
    }
    if (take_over_unchanged(state_, directory, entry) || take_over_link(state_, directory, entry)) {
        co_return;
    }
    const std::int64_t fd = co_await open_source(directory, entry);
    if (fd < 0) {
        throw SourceError(Error::system("open", path, static_cast<int>(-fd)));
    }
    FileDescriptor file(static_cast<int>(fd));
    SourceInode source = read_inode(file.get(), entry, true, path);
    Inode& inode = source.inode;
    auto xattrs = read_source([&] { return read_xattrs(file.get(), false, path); });
    reader_.check_unchanged(file.get(), inode, path);
    if (inode.links > 1 && !state_.claim_linked(entry.ino)) {
        co_return;
    }
    inode.xattr_count = static_cast<std::uint32_t>(xattrs.size());
    Records records;
    if (!xattrs.empty()) {
        records = co_await drain_xattrs(entry.ino, std::move(xattrs));
    }
    co_await drain_content(std::move(file), directory, entry, std::move(source), std::move(records), std::move(path));
}

// An earlier drain of the same snapshot has stored it.
void DrainWorker::skip_file() {
    state_.progress.files_total.fetch_add(1, std::memory_order_relaxed);
    state_.progress.files_done.fetch_add(1, std::memory_order_relaxed);
}

void DrainWorker::add_whole_file(std::uint64_t ino, const Inode& inode, Records records) {
    Bytes encoded = encode(inode);
    state_.catalog.add_inode(ino, encoded);
    if (!inode.damaged) {
        records.push_back({key::inode(ino), std::move(encoded)});
        packs_.log_file(records, inode.runs.empty() ? PackId{} : inode.runs.back().pack);
    }
}

Task<void> DrainWorker::drain_content(FileDescriptor file, const SourceDirectory& directory, const SourceEntry& entry, SourceInode source,
                                      Records records, std::string path) {
    Inode& inode = source.inode;
    state_.note_owner(inode.uid, inode.gid);
    ++state_.read_files;
    if (state_.options.is_warm_pass) {
        read_source([&] { wait_for_writer(file.get(), path); });
    }
    const std::uint64_t size = inode.size;
    const std::uint64_t allocated = static_cast<std::uint64_t>(stat_fd(file.get(), path).stx_blocks) * 512;
    state_.progress.files_total.fetch_add(1, std::memory_order_relaxed);
    state_.progress.bytes_total.fetch_add(std::min(size, std::max(allocated, std::min(size, kPlainSmallFile))), std::memory_order_relaxed);
    const Content content = content_of(size, allocated, !source.unwritten.empty());
    bool taken_over = take_over_small(state_, file.get(), entry.ino, content, inode, path);
    const bool compares = !taken_over && state_.counterparts && (content == Content::kWhole || content == Content::kRanges);
    auto stored = compares ? state_.counterparts->file(directory, entry, inode) : std::nullopt;
    taken_over |= content == Content::kWhole && stored && take_over_small(state_, file.get(), entry.ino, *stored, inode, path);
    if (taken_over) {
        add_whole_file(entry.ino, inode, std::move(records));
        state_.progress.bytes_done.fetch_add(size, std::memory_order_relaxed);
        state_.progress.files_done.fetch_add(1, std::memory_order_relaxed);
        co_return;
    }
    switch (content) {
        case Content::kNone:
            state_.catalog.add_inode(entry.ino, inode);
            break;
        case Content::kInline:
            co_await drain_inline(file.get(), entry.ino, std::move(inode), std::move(records), std::move(path));
            break;
        case Content::kWhole:
            co_await drain_one_segment(file.get(), entry.ino, std::move(inode), record_of(std::move(stored)), std::move(records),
                                       std::move(path));
            break;
        case Content::kRanges:
            push_large(std::move(file), entry.ino, std::move(source), std::move(stored), std::move(path));
            break;
    }
    state_.progress.files_done.fetch_add(1, std::memory_order_relaxed);
}

void DrainWorker::push_large(FileDescriptor file, std::uint64_t ino, SourceInode source, std::optional<Counterpart> stored,
                             std::string path) {
    const std::uint64_t size = source.inode.size;
    FileExtents extents = extents_to_read(state_, file.get(), ino, source, stored, path);
    state_.queue.push(std::make_shared<LargeFile>(std::move(file), std::move(path), ino, std::move(source.inode), state_.catalog,
                                                  std::move(extents.next), extents.edits, record_of(std::move(stored))),
                      size);
}

Task<void> DrainWorker::drain_inline(int fd, std::uint64_t ino, Inode inode, Records records, std::string path) {
    alignas(64) std::byte unaligned[2 * kPackAlignment];
    const auto address = reinterpret_cast<std::uintptr_t>(unaligned);
    std::byte* const buffer = unaligned + (kPackAlignment - address % kPackAlignment) % kPackAlignment;
    const std::int64_t got = co_await reader_.read_content(fd, {buffer, kPackAlignment}, 0, inode.size);
    if (got == static_cast<std::int64_t>(inode.size)) {
        inode.content.assign(buffer, buffer + inode.size);
        state_.read_bytes += inode.size;
        state_.new_bytes += inode.size;
        state_.progress.bytes_done.fetch_add(inode.size, std::memory_order_relaxed);
        reader_.check_unchanged(fd, inode, path);
    } else {
        reader_.fell_short(fd, path, got);
        inode.damaged = true;
        Run run;
        run.length = inode.size;
        run.flags = Run::kDamagedSource;
        inode.runs.push_back(run);
        inode.run_count = 1;
    }
    add_whole_file(ino, inode, std::move(records));
}

Task<void> DrainWorker::drain_one_segment(int fd, std::uint64_t ino, Inode inode, std::optional<Inode> stored, Records records,
                                          std::string path) {
    const FileRange range{0, static_cast<std::uint32_t>(inode.size)};
    inode.runs = co_await reader_.read(fd, range, inode.size, path, stored);
    inode.run_count = inode.runs.size();
    inode.damaged = std::any_of(inode.runs.begin(), inode.runs.end(), [](const Run& run) { return run.flags == Run::kDamagedSource; });
    reader_.check_unchanged(fd, inode, path);
    add_whole_file(ino, inode, std::move(records));
}

Task<void> DrainWorker::drain_range(std::shared_ptr<ChunkInProgress> chunk, FileRange range) {
    const ActiveUnit unit(active_);
    LargeFile& file = *chunk->file;
    const auto runs = co_await reader_.read(file.fd(), range, file.inode().size, file.path(), file.stored());
    reader_.check_unchanged(file.fd(), file.inode(), file.path());  // what is logged counts for good
    for (const Run& run : runs) {
        state_.catalog.add_run(file.ino(), run);
        if (run.flags == Run::kDamagedSource) {
            file.mark_damaged();
        } else {
            packs_.log_run(file.ino(), run);
        }
    }
    if (++chunk->done == chunk->ranges.size()) {
        file.chunk_done();
    }
}

Task<void> DrainWorker::drain_other(const SourceDirectory& directory, const SourceEntry& entry, std::string path) {
    const bool itself = directory.fd && entry.name.empty();
    // What was opened for reading tells more than an O_PATH descriptor; devices and FIFOs aren't opened so.
    const bool readable = itself || (!directory.fd && entry.d_type == DT_DIR);
    std::int64_t opened = directory.fd.get();
    if (!itself) {
        opened = co_await open_entry(directory, entry, O_NOFOLLOW | O_CLOEXEC | (readable ? O_RDONLY | O_DIRECTORY : O_PATH));
    }
    if (opened < 0) {
        throw SourceError(Error::system("open", path, static_cast<int>(-opened)));
    }
    const int fd = static_cast<int>(opened);
    const FileDescriptor owned(itself ? -1 : fd);
    Inode inode = read_inode(fd, entry, readable, path).inode;
    if (inode.type == FileType::kSymlink) {
        const std::string target = read_source([&] { return read_link(fd, "", path); });
        inode.content.resize(target.size());
        std::memcpy(inode.content.data(), target.data(), target.size());
    }
    auto xattrs = read_source([&] { return read_xattrs(fd, !readable, path); });
    if (inode.links > 1 && inode.type != FileType::kDirectory && !state_.claim_linked(entry.ino)) {
        co_return;
    }
    inode.xattr_count = static_cast<std::uint32_t>(xattrs.size());
    if (!xattrs.empty()) {
        co_await drain_xattrs(entry.ino, std::move(xattrs));
    }
    inode.damaged = entry.incomplete;
    state_.note_owner(inode.uid, inode.gid);
    state_.catalog.add_inode(entry.ino, inode);
}

Task<DrainWorker::Records> DrainWorker::drain_xattrs(std::uint64_t ino, std::vector<SourceXattr> xattrs) {
    Records records;
    for (SourceXattr& source : xattrs) {
        Xattr stored;
        stored.size = source.value.size();
        if (source.value.size() <= kInlineContentLimit) {
            stored.value = std::move(source.value);
        } else {
            auto reservation = co_await packs_.reserve(static_cast<std::uint32_t>(source.value.size()));
            std::memcpy(reservation.room.data(), source.value.data(), source.value.size());
            Run run;
            run.length = source.value.size();
            run.pack = reservation.pack;
            run.first = reservation.number;
            run.count = 1;
            stored.runs.push_back(run);
            packs_.filled(std::move(reservation));
        }
        records.push_back({key::xattr(ino, source.name), encode(stored)});
        state_.catalog.add_xattr(records.back().key, records.back().value);
    }
    co_return records;
}

SourceInode DrainWorker::read_inode(int fd, const SourceEntry& entry, bool has_flags, const std::string& path) {
    return read_source([&] {
        SourceInode source = read_source_inode(fd, has_flags, state_.options.clones, path);
        const bool numbered = state_.options.source_is_live || state_.options.clones != nullptr;
        if (source.inode.type != file_type_of(entry.d_type) || (numbered && source.ino != entry.ino)) {
            throw Error::system("read", path, ESTALE, "it was replaced while it was read: stop the daemon first");
        }
        return source;
    });
}

void DrainWorker::add_placeholder(const SourceEntry& entry, const std::string& path, const Error& error) {
    state_.unreadable(path, error);
    Inode inode;
    inode.type = file_type_of(entry.d_type);
    inode.damaged = true;
    state_.catalog.add_unreadable(entry.ino, inode);
}

}  // namespace nodesnap

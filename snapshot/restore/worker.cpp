#include "snapshot/restore/worker.h"

#include <fcntl.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "io/transfer.h"
#include "platform/error.h"
#include "platform/extent_map.h"
#include "platform/file.h"
#include "snapshot/drain/stored_comparison.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kSliceBytes = 16ULL << 20;
constexpr std::size_t kKeptXattrBytes = 256U << 10;  // of one batch; inline content and runs are bounded for each file
constexpr std::uint64_t kAssemblies = 1;             // of one worker at once
constexpr std::size_t kPlainWrite = 32U << 10;       // up to this length a plain call into the page cache is faster than a ring

std::size_t memory_of(const std::vector<NamedXattr>& xattrs) {
    std::size_t bytes = 0;
    for (const auto& xattr : xattrs) {
        bytes += sizeof xattr + xattr.name.size() + xattr.value.value.size() + xattr.value.runs.size() * sizeof(Run);
    }
    return bytes;
}

// So that all that a window has in a pack is read by one plan.
void sort_by_pack(std::vector<RunPart>& parts) {
    std::stable_sort(parts.begin(), parts.end(), [](const RunPart& a, const RunPart& b) { return a.run.pack < b.run.pack; });
}

// Counts something for as long as it lives.
class Counted {
public:
    explicit Counted(std::size_t& count) : count_(count) { ++count_; }
    Counted(const Counted&) = delete;
    Counted& operator=(const Counted&) = delete;
    ~Counted() { --count_; }

private:
    std::size_t& count_;
};

}  // namespace

// One of the worker's rooms, for as long as it lives.
class RestoreWorker::RoomHold {
public:
    RoomHold(RestoreWorker& worker, AsyncSemaphore::Hold turn) : worker_(worker), turn_(std::move(turn)) {
        if (worker_.rooms_.empty()) {
            worker_.rooms_.emplace_back(worker_.context_.window_bytes);
        }
        room_.emplace(std::move(worker_.rooms_.back()));
        worker_.rooms_.pop_back();
    }
    RoomHold(const RoomHold&) = delete;
    RoomHold& operator=(const RoomHold&) = delete;
    ~RoomHold() { worker_.rooms_.push_back(std::move(*room_)); }
    std::span<std::byte> span() const { return room_->span(); }

private:
    RestoreWorker& worker_;
    AsyncSemaphore::Hold turn_;
    std::optional<AssemblyRoom> room_;
};

// The reads of one plan that are in flight.
struct RestoreWorker::Reads {
    explicit Reads(Ring& ring) : none_left(ring) {}

    // Counts one read, also when it ends with an exception.
    class Token {
    public:
        explicit Token(Reads& reads) : reads_(reads) { ++reads_.in_flight; }
        Token(const Token&) = delete;
        Token& operator=(const Token&) = delete;
        ~Token() {
            reads_.failed |= !done_;
            if (--reads_.in_flight == 0) {
                reads_.none_left.set();
            }
        }
        void done() { done_ = true; }

    private:
        Reads& reads_;
        bool done_ = false;
    };

    std::size_t in_flight = 0;
    bool failed = false;
    AsyncEvent none_left;
};

RestoreWorker::RestoreWorker(RestoreContext& context, RestoreQueue& queue, const Options& options)
    : context_(context),
      queue_(queue),
      options_(options),
      ring_({.entries = 256, .force_blocking = options.force_blocking}),
      buffers_(ring_, {.count = options.buffers, .buffer_bytes = kReadLimit}),
      loader_(context.repository, context.backup),
      assembling_(ring_, kAssemblies) {}

void RestoreWorker::run() {
    while (true) {
        while (works_ < options_.works) {
            auto work = queue_.next(works_ == 0);
            if (!work) {
                break;
            }
            start(std::move(work));
        }
        if (ring_.idle()) {
            return;
        }
        ring_.step();
    }
}

void RestoreWorker::start(RestoreWork work) {
    if (work.large) {
        ring_.spawn(restore_window(std::move(work.large), std::move(work.window)));
    } else if (work.slice) {
        ring_.spawn(restore_slice(std::move(work.slice)));
    } else {
        sort(*work.batch, work.batch);
        queue_.batch_sorted();
    }
}

// Makes all that has no data to wait for, and sorts the files into slices and large ones.
void RestoreWorker::sort(RestoreBatch& batch, const std::shared_ptr<RestoreBatch>& shared) {
    std::vector<std::unique_ptr<RestoreFile>> small;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < batch.entries.size(); ++i) {
        auto& entry = batch.entries[i];
        Inode inode;
        std::vector<NamedXattr> xattrs;
        bool complete = loader_.load(entry.ino, entry.type, inode, xattrs);
        if (const auto bytes = memory_of(xattrs); kept + bytes <= kKeptXattrBytes) {
            kept += bytes;
        } else {
            xattrs = {};  // they are looked up again, one by one, when the file is finished
            complete = false;
        }
        if (entry.type != FileType::kRegular) {
            restore_other(context_, entry, inode, complete ? &xattrs : nullptr);
            continue;
        }
        const bool large = RestoreLarge::is_large(inode);
        auto file = std::make_unique<RestoreFile>(context_, std::move(entry), std::move(inode), std::move(xattrs), complete);
        if (large) {
            batch.add_part();
            queue_.push(std::make_shared<RestoreLarge>(context_, std::move(file), shared, i));
        } else {
            small.push_back(std::move(file));
        }
    }
    batch.entries = {};
    push_slices(shared, std::move(small));
    batch.part_done(0);
}

void RestoreWorker::push_slices(const std::shared_ptr<RestoreBatch>& batch, std::vector<std::unique_ptr<RestoreFile>> files) {
    std::unique_ptr<RestoreSlice> slice;
    std::uint64_t bytes = 0;
    for (auto& file : files) {
        if (slice && (bytes >= kSliceBytes || slice->files.size() == options_.slice_files)) {
            queue_.push(std::exchange(slice, nullptr));
        }
        if (!slice) {
            slice = std::make_unique<RestoreSlice>();
            slice->batch = batch;
            batch->add_part();
            bytes = 0;
        }
        bytes += file->data_bytes();
        slice->files.push_back(std::move(file));
    }
    if (slice) {
        queue_.push(std::move(slice));
    }
}

Task<void> RestoreWorker::restore_window(std::shared_ptr<RestoreLarge> large, RestoreWindow window) {
    const Counted counted(works_);
    const RestoreFile& file = large->file();
    // What is compared may stay: then the assembly would have gaps.
    auto assembly = file.to_be_compared() ? std::nullopt : RestoreAssembly::of(window);
    std::optional<RoomHold> room;
    if (assembly && assembly->memory_bytes() <= context_.window_bytes) {
        room.emplace(*this, co_await assembling_.acquire());
        assembly->use(room->span());
    }
    WindowJob job(file, room ? &*assembly : nullptr);
    if (room) {
        sort_by_pack(window.parts);
    }
    const bool good = co_await fill_window(window, file, job);
    if (!good) {
        co_return;
    }
    if (room) {
        co_await write_assembled(*assembly, job);
    }
    // So that the disk writes while the rest is read, and the sync at the end finds little left to do. A hint: what fails here fails there.
    static_cast<void>(co_await ring_.sync_range(file.fd(), window.begin, window.end - window.begin));
    large->window_done(window, job.bytes());
}

Task<bool> RestoreWorker::fill_window(const RestoreWindow& window, const RestoreFile& file, WindowJob& job) {
    ReadPlan plan(context_.repository, job.assembled() ? options_.assembly_plan : options_.plan);
    std::size_t next = 0;
    while (next < window.parts.size()) {
        for (; next < window.parts.size() && !plan.full(); ++next) {
            const auto& part = window.parts[next];
            if (part.run.flags == Run::kUnwritten && !file.held()) {
                file.allocate(part.run);
            } else if (file.to_be_compared()) {
                co_await add_differing(plan, part, 0, file, job);
            } else {
                add(plan, part.run, part.from, part.length, 0, job);
            }
        }
        const bool good = co_await execute(plan, job);
        if (!good) {
            co_return false;
        }
    }
    co_return true;
}

Task<void> RestoreWorker::write_assembled(const RestoreAssembly& assembly, WindowJob& job) {
    RestoreJob::Sink sink = job.sink(0);
    sink.assembly = nullptr;
    for (const auto& stretch : assembly.stretches()) {
        co_await write(sink, assembly.bytes(stretch), stretch.offset, job, 0);
    }
}

Task<void> RestoreWorker::restore_slice(std::unique_ptr<RestoreSlice> slice) {
    const Counted counted(works_);
    SliceJob job(context_, slice->files);
    ReadPlan plan(context_.repository, options_.plan);
    for (std::uint32_t i = 0; i < slice->files.size(); ++i) {
        context_.lost.forget([&job, i] { return job.path(i); }, 0);
        const bool wanted = job.begin(i);
        auto parts = slice->files[i]->parts(0);
        RunPart part;
        while (wanted && parts.next(part)) {
            if (plan.full()) {
                const bool good = co_await execute(plan, job);
                if (!good) {
                    co_return;
                }
            }
            if (job.file(i).to_be_compared()) {
                co_await add_differing(plan, part, i, job.file(i), job);
            } else {
                add(plan, part.run, part.from, part.length, i, job);
            }
        }
        job.all_planned(i);
        if (plan.full() || i + 1 == slice->files.size()) {
            const bool good = co_await execute(plan, job);
            if (!good) {
                co_return;
            }
        }
    }
    slice->batch->part_done(job.bytes());
}

void RestoreWorker::add(ReadPlan& plan, const Run& run, std::uint64_t from, std::uint64_t length, std::uint32_t file,
                        const RestoreJob& job) {
    if (run.flags == Run::kDamagedSource) {
        context_.lost.add(job.path(file), LostRange::Cause::kSource, run.offset + from, length);
    }
    if (run.flags != Run::kNone) {
        return;
    }
    try {
        plan.add(run, from, length, file, [&job](std::uint32_t number) { return job.path(number); });
    } catch (const Error& error) {
        if (!context_.lost.goes_past(error)) {
            throw;
        }
        plan.add_lost(run.offset + from, length, file);
    }
}

// Where the file has no data, all of it is written, also zeros: they are allocated in the backup.
Task<void> RestoreWorker::add_differing(ReadPlan& plan, RunPart part, std::uint32_t file, const RestoreFile& to, RestoreJob& job) {
    if (part.run.flags != Run::kNone) {
        add(plan, part.run, part.from, part.length, file, job);
        co_return;
    }
    const auto end = part.begin() + part.length;
    while (part.length != 0) {
        const auto data = next_data(to.fd(), part.begin(), end, to.path());
        if (data.begin > part.begin()) {
            const auto hole = data.begin - part.begin();
            add(plan, part.run, part.from, hole, file, job);
            part.from += hole;
            part.length -= hole;
        }
        if (part.length != 0) {
            RunPart chunk = part;
            chunk.length = std::min<std::uint64_t>(data.end - data.begin, kReadLimit - data.begin % kReadLimit);
            co_await compare(plan, chunk, file, to, job);
            part.from += chunk.length;
            part.length -= chunk.length;
        }
    }
}

// What can't be read counts as different.
Task<void> RestoreWorker::compare(ReadPlan& plan, RunPart part, std::uint32_t file, const RestoreFile& to, RestoreJob& job) {
    Buffer buffer = co_await buffers_.acquire();
    if (context_.throttle.limited()) {
        co_await pace(ring_, context_.throttle, part.length);
    }
    const auto data = buffer.span().first(part.length);
    const auto read = co_await read_full(ring_, to.fd(), data, part.begin());
    static_cast<void>(co_await ring_.advise(to.fd(), part.begin(), part.length, POSIX_FADV_DONTNEED));
    if (read != static_cast<std::int64_t>(part.length)) {
        add(plan, part.run, part.from, part.length, file, job);
        co_return;
    }
    StoredComparison stored(context_.repository, to.inode());
    for (const auto& piece : stored.compare(data, part.begin())) {
        if (!piece.stored) {
            add(plan, part.run, part.from + piece.from, piece.length, file, job);
        } else {
            context_.bytes_kept += piece.length;
            context_.progress.bytes_done += piece.length;
        }
    }
}

LossSink RestoreWorker::keeping_sink(const RestoreJob& job, std::vector<KeptBytes>& kept) {
    return [this, &job, &kept](std::uint32_t file, std::uint64_t offset, std::uint64_t length) {
        take_present(context_.lost, job.path(file), job.file(file).before_fd(), {file, offset, length}, kept);
    };
}

Task<bool> RestoreWorker::execute(ReadPlan& plan, RestoreJob& job) {
    const auto planned = plan.finish();
    job.planned(planned);
    Reads reads(ring_);
    {
        Reads::Token all(reads);
        for (std::size_t i = 0; i < planned.size() && !reads.failed && !queue_.aborted(); ++i) {
            Buffer buffer = co_await buffers_.acquire();
            ring_.spawn(read_and_write(std::move(buffer), planned[i], job, reads));
        }
        all.done();
    }
    co_await reads.none_left.wait();  // whatever happens: they refer to what lives here
    co_return !reads.failed && !queue_.aborted();
}

Task<void> RestoreWorker::read_and_write(Buffer buffer, const PlannedRead& read, RestoreJob& job, Reads& reads) {
    Reads::Token token(reads);
    if (context_.throttle.limited()) {
        const auto wait = context_.throttle.reserve(read.length);
        if (wait.count() > 0) {
            co_await ring_.sleep(wait);
        }
    }
    const auto data = buffer.span().first(read.length);
    if (read.pack) {
        std::vector<KeptBytes> kept;
        const bool whole = co_await read_proved(read, data, job);
        if (!whole) {
            salvage_read(read, data, context_.repository.hasher(), keeping_sink(job, kept));
        }
        co_await write_pieces(read, data, job, std::move(kept));
    } else {
        co_await write_lost(read, data, job);
    }
    token.done();
}

Task<bool> RestoreWorker::read_proved(const PlannedRead& read, std::span<std::byte> data, const RestoreJob& job) {
    try {
        co_await read.pack->reader().read(ring_, data, read.offset);
        verify_read(read, data, context_.repository.hasher(), [&job](std::uint32_t file) { return job.path(file); });
    } catch (const Error& error) {
        if (!context_.lost.goes_past(error)) {
            throw;
        }
        co_return false;
    }
    co_return true;
}

// Zeros are written, not left out: what an earlier run has left there may be anything.
Task<void> RestoreWorker::write_lost(const PlannedRead& read, std::span<std::byte> data, RestoreJob& job) {
    const auto& piece = read.pieces.front();
    std::fill(data.begin(), data.end(), std::byte{0});
    const auto sink = job.sink(piece.file);
    std::vector<KeptBytes> kept;
    keeping_sink(job, kept)(piece.file, piece.file_offset, piece.length);
    if (sink.assembly == nullptr && sink.fd == job.file(piece.file).before_fd() && covers(kept, piece)) {
        context_.bytes_kept += piece.length;
        context_.progress.bytes_done += piece.length;
        job.passed(piece);
        co_return;
    }
    put_kept(kept, piece, data);
    co_await write(sink, data.first(piece.length), piece.file_offset, job, piece.file);
    written(piece, job);
}

void RestoreWorker::written(const Piece& piece, RestoreJob& job) {
    job.written(piece);
    context_.progress.bytes_done += piece.length;
    context_.bytes += piece.length;
}

// Writes the pieces, those that follow one another in buffer and file by one call.
Task<void> RestoreWorker::write_pieces(const PlannedRead& read, std::span<std::byte> data, RestoreJob& job, std::vector<KeptBytes> kept) {
    const FileNamer name = [&job](std::uint32_t file) { return job.path(file); };
    const LossSink lost = keeping_sink(job, kept);
    std::vector<std::byte> scratch;
    std::vector<std::byte> patched;
    for (std::size_t i = 0; i < read.pieces.size();) {
        const auto& first = read.pieces[i];
        const auto bytes =
            piece_data(read, first, data, scratch, context_.repository.hasher(), name, context_.lost.accepted() ? lost : LossSink());
        if (!kept.empty()) {  // pieces of several files may share the bytes, so one by one, and in a copy
            patched.assign(bytes.begin(), bytes.end());
            put_kept(kept, first, patched);
            co_await write(job.sink(first.file), patched, first.file_offset, job, first.file);
            written(first, job);
            ++i;
            continue;
        }
        const bool in_place = bytes.data() >= data.data() && bytes.data() < data.data() + data.size();
        const auto begin = in_place ? static_cast<std::size_t>(bytes.data() - data.data()) : 0;
        std::size_t length = bytes.size();
        std::size_t pieces = 1;
        while (in_place && i + pieces < read.pieces.size()) {
            const auto& next = read.pieces[i + pieces];
            const auto segment = read.pack->index().segment(next.segment);
            if (next.file != first.file || next.file_offset != first.file_offset + length || segment.codec != Codec::kNone ||
                segment.offset + next.from != read.offset + begin + length) {
                break;
            }
            length += next.length;
            ++pieces;
        }
        const auto sink = job.sink(first.file);
        const std::span<const std::byte> from = in_place ? std::span<const std::byte>(data).subspan(begin, length) : bytes;
        co_await write(sink, from, first.file_offset, job, first.file);
        for (std::size_t done = 0; done < pieces; ++done) {
            written(read.pieces[i + done], job);
        }
        i += pieces;
    }
}

Task<void> RestoreWorker::write(RestoreJob::Sink sink, std::span<const std::byte> bytes, std::uint64_t offset, RestoreJob& job,
                                std::uint32_t file) {
    if (sink.assembly != nullptr) {
        sink.assembly->put(offset, bytes);
        co_return;
    }
    const bool aligned = offset % kPackAlignment == 0 && reinterpret_cast<std::uintptr_t>(bytes.data()) % kPackAlignment == 0;
    const std::size_t direct = sink.direct_fd >= 0 && aligned ? bytes.size() / kPackAlignment * kPackAlignment : 0;
    std::int64_t result = 0;
    if (direct != 0) {
        result = co_await write_full(ring_, sink.direct_fd, bytes.first(direct), offset);
    }
    const auto rest = bytes.subspan(direct);
    if (result >= 0 && !rest.empty()) {
        if (rest.size() <= kPlainWrite) {
            pwrite_all(sink.fd, rest, offset + direct, job.path(file));
        } else {
            result = co_await write_full(ring_, sink.fd, rest, offset + direct);
        }
    }
    if (result < 0) {
        throw Error::system("write to", job.path(file), static_cast<int>(-result));
    }
}

}  // namespace nodesnap

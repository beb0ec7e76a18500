// One large object of the directory target on its way: journal/<staging_id>.part, renamed when it is durable.
//
// The file is open twice: with O_DIRECT for aligned data, and buffered for the rest (or for all, where the file system refuses O_DIRECT).
// The two never meet in one page: an aligned write begins where the last one ended, on a page's border. btrfs takes O_DIRECT writes of
// files with checksums through the page cache and waits for each (since Linux 6.15), which takes a quarter longer than writing through the
// cache in the first place. Whatever is buffered is written back early and dropped behind: the last fdatasync is short and the daemon's
// page cache stays the daemon's.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "io/target/directory_parts.h"
#include "io/target/object_name.h"
#include "io/transfer.h"
#include "platform/fault.h"
#include "platform/file_system.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kAlignment = 4096;
constexpr std::uint64_t kWriteBackStep = std::uint64_t{4} << 20;
constexpr std::uint64_t kDropDistance = std::uint64_t{8} << 20;  // behind what is being written back: clean by then
constexpr mode_t kFileMode = 0600;

bool aligned(std::span<const std::byte> data, std::uint64_t offset) {
    return (reinterpret_cast<std::uintptr_t>(data.data()) | data.size() | offset) % kAlignment == 0;
}

// What operations in flight need; outlives the writer if they do.
struct Part {
    FileDescriptor buffered;
    FileDescriptor direct;  // none where O_DIRECT is refused or doesn't pay
};

Task<void> write_back(Ring& ring, std::shared_ptr<Part> part, std::uint64_t from, std::uint64_t to) {
    // Only hints: the errors of write-back come out of the final fdatasync.
    co_await ring.sync_range(part->buffered.get(), from, to - from);
    if (from >= kDropDistance) {
        co_await ring.advise(part->buffered.get(), from - kDropDistance, to - from, POSIX_FADV_DONTNEED);
    }
}

class DirectoryWriter : public ObjectWriter {
public:
    DirectoryWriter(std::shared_ptr<Folders> folders, std::string name, std::string_view staging_id);
    ~DirectoryWriter() override;
    Task<void> write(Ring& ring, std::span<const std::byte> data, std::uint64_t offset) override;
    Task<void> finish(Ring& ring) override;

private:
    Task<std::int64_t> write_anyhow(Ring& ring, std::span<const std::byte> data, std::uint64_t offset);
    void start_write_back(Ring& ring, std::uint64_t written);
    Task<void> sync_folder(Ring& ring, std::string folder);

    std::shared_ptr<Folders> folders_;
    std::string name_;
    std::string part_name_;
    std::shared_ptr<Part> part_ = std::make_shared<Part>();
    bool cached_ = false;     // writes leave pages in the cache
    std::uint64_t next_ = 0;  // where the next write begins
    std::uint64_t written_back_ = 0;
    bool finished_ = false;
};

DirectoryWriter::DirectoryWriter(std::shared_ptr<Folders> folders, std::string name, std::string_view staging_id)
    : folders_(std::move(folders)), name_(std::move(name)), part_name_("journal/" + std::string(staging_id) + ".part") {
    for (const std::string& folder : folders_->make_above(part_name_)) {
        folders_->sync(folder);
    }
    const int fd = folders_->try_open(part_name_, O_WRONLY | O_CREAT | O_EXCL, kFileMode);
    if (fd < 0) {
        throw folders_->error("create", part_name_, -fd);
    }
    part_->buffered.reset(fd);
    if (file_system_of(folders_->root(), folders_->path()).type != "btrfs") {
        const int direct = folders_->try_open(part_name_, O_WRONLY | O_DIRECT);
        part_->direct.reset(std::max(direct, -1));
    }
}

DirectoryWriter::~DirectoryWriter() {
    if (!finished_) {
        ::unlinkat(folders_->root(), part_name_.c_str(), 0);
    }
}

Task<void> DirectoryWriter::write(Ring& ring, std::span<const std::byte> data, std::uint64_t offset) {
    if (finished_ || offset != next_) {
        throw Error::failed(folders_->place(name_) + ": written out of order");
    }
    next_ += data.size();
    const std::int64_t written = co_await write_anyhow(ring, data, offset);
    if (written < 0) {
        throw folders_->error("write to", part_name_, static_cast<int>(-written));
    }
    start_write_back(ring, offset + data.size());
}

Task<std::int64_t> DirectoryWriter::write_anyhow(Ring& ring, std::span<const std::byte> data, std::uint64_t offset) {
    if (part_->direct && aligned(data, offset)) {
        const std::int64_t written = co_await write_full(ring, part_->direct.get(), data, offset);
        if (written != -EINVAL) {
            co_return written;
        }
    }
    cached_ = true;  // also when the file system wants a larger alignment than ours
    co_return co_await write_full(ring, part_->buffered.get(), data, offset);
}

void DirectoryWriter::start_write_back(Ring& ring, std::uint64_t written) {
    if (!cached_ || written < written_back_ + kWriteBackStep) {
        return;
    }
    const std::uint64_t to = written / kAlignment * kAlignment;
    // On its own: the caller's buffer is free already.
    ring.spawn(write_back(ring, part_, written_back_, to));
    written_back_ = to;
}

Task<void> DirectoryWriter::sync_folder(Ring& ring, std::string folder) {
    const FileDescriptor fd = folders_->open_folder(folder);
    const std::int64_t synced = co_await ring.fsync(fd.get(), false);
    if (synced < 0) {
        throw folders_->error("sync", folder, static_cast<int>(-synced));
    }
}

Task<void> DirectoryWriter::finish(Ring& ring) {
    const std::int64_t synced = co_await ring.fsync(part_->buffered.get(), true);
    if (synced < 0) {
        throw folders_->error("write to", part_name_, static_cast<int>(-synced));
    }
    folders_->sync_removals();
    const std::vector<std::string> changed = folders_->make_above(name_);
    fault::step("target.part-durable");
    if (!folders_->move_new(part_name_, name_)) {
        throw Error::failed("cannot create " + folders_->place(name_) + ": it exists already");
    }
    finished_ = true;
    // The part's old name needs no sync: should it come back after a power cut, abandon() removes it.
    co_await sync_folder(ring, folder_of(name_));
    for (const std::string& folder : changed) {
        co_await sync_folder(ring, folder);
    }
    if (cached_) {
        co_await ring.advise(part_->buffered.get(), 0, 0, POSIX_FADV_DONTNEED);
    }
}

}  // namespace

std::unique_ptr<ObjectWriter> make_directory_writer(std::shared_ptr<Folders> folders, std::string name, std::string_view staging_id) {
    return std::make_unique<DirectoryWriter>(std::move(folders), std::move(name), staging_id);
}

}  // namespace nodesnap

// DrainWorker: one core's share of a drain: its own ring, buffers and open pack. Lives on the thread that runs it.
#pragma once

#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "io/buffer_pool.h"
#include "io/ring.h"
#include "io/semaphore.h"
#include "snapshot/drain/drain_state.h"
#include "snapshot/drain/inode_reader.h"
#include "snapshot/drain/large_file.h"
#include "snapshot/drain/pack_stream.h"

namespace nodesnap {

class DrainWorker {
public:
    static constexpr std::size_t kAllBuffers = 32;  // of 1 MiB, shared out among the workers

    DrainWorker(DrainState& state, unsigned index, unsigned workers);
    ~DrainWorker();

    // Until the queue has nothing more; then the worker's packs are durable. Throws what failed.
    void run();

private:
    static constexpr std::size_t kComparing = 4;  // ranges that are compared at once

    struct FreeScratch {
        void operator()(std::byte* memory) const { ::operator delete (memory, std::align_val_t{kPackAlignment}); }
    };
    using Scratch = std::unique_ptr<std::byte, FreeScratch>;  // kSegmentLimit bytes
    Scratch take_scratch();

    using Records = std::vector<PackStream::LogRecord>;  // of one file

    struct BatchInProgress;
    struct ChunkInProgress;
    class ActiveUnit;
    class SourceError;

    bool start_next(bool wait);
    bool take_item(bool wait);
    std::vector<FileRange> next_ranges(LargeFile& file);

    Task<void> drain_entry(std::shared_ptr<BatchInProgress> batch, std::size_t index);
    Task<void> drain_file(const SourceDirectory& directory, const SourceEntry& entry, std::string path);
    Task<void> drain_content(FileDescriptor file, std::uint64_t ino, Inode inode, Records records, std::string path);
    void push_large(FileDescriptor file, std::uint64_t ino, Inode inode, std::string path);
    std::optional<Inode> parents_record(std::uint64_t ino, const Inode& now) const;
    void skip_file();
    void add_whole_file(std::uint64_t ino, const Inode& inode, Records records);
    Task<void> drain_inline(int fd, std::uint64_t ino, Inode inode, Records records, std::string path);
    Task<void> drain_one_segment(int fd, std::uint64_t ino, Inode inode, Records records, std::string path);
    Task<void> drain_range(std::shared_ptr<ChunkInProgress> chunk, FileRange range);
    Task<void> drain_other(const SourceDirectory& directory, const SourceEntry& entry, std::string path);
    Task<Records> drain_xattrs(std::uint64_t ino, std::vector<SourceXattr> xattrs);
    Task<std::int64_t> open_entry(const SourceDirectory& directory, const SourceEntry& entry, int flags);
    Task<std::int64_t> open_source(const SourceDirectory& directory, const SourceEntry& entry);

    Task<std::vector<Run>> read_range(int fd, FileRange range, std::uint64_t file_size, std::string path,
                                      const std::optional<Inode>& stored);
    Task<std::vector<Run>> store_differences(std::span<const std::byte> data, std::uint64_t offset, const Inode& stored);
    // Reads a range into its reserved room, and says which runs it became: one, or several around parts that couldn't be read.
    Task<std::vector<Run>> read_segment(int fd, FileRange range, std::uint64_t file_size, std::string path,
                                        PackStream::Reservation reservation);
    Task<std::vector<Run>> salvage(int fd, FileRange range, std::uint64_t file_size, PackStream::Reservation reservation);
    Task<std::int64_t> read_content(int fd, std::span<std::byte> into, std::uint64_t offset, std::uint64_t file_size);
    Task<std::int64_t> read_aligned(int fd, std::span<std::byte> into, std::uint64_t offset, std::uint64_t file_size);
    template <typename Read>
    static auto read_source(Read read);
    Inode read_inode(int fd, const SourceEntry& entry, bool has_flags, const std::string& path);
    void fell_short(const std::string& path, std::int64_t got);
    void check_unchanged(int fd, const Inode& before, const std::string& path);
    void add_placeholder(const SourceEntry& entry, const std::string& path, const Error& error);

    DrainState& state_;
    unsigned index_;
    std::size_t units_;  // files and ranges in flight at most
    Ring ring_;
    BufferPool buffers_;
    AsyncSemaphore comparing_;
    std::vector<Scratch> scratch_;  // that nobody uses now
    PackStream packs_;
    std::size_t active_ = 0;
    std::shared_ptr<BatchInProgress> batch_;
    std::shared_ptr<ChunkInProgress> chunk_;
};

}  // namespace nodesnap

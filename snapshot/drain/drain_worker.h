// DrainWorker: one core's share of a drain: its own ring, buffers and open pack. Lives on the thread that runs it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/buffer_pool.h"
#include "io/ring.h"
#include "snapshot/drain/drain_state.h"
#include "snapshot/drain/inode_reader.h"
#include "snapshot/drain/large_file.h"
#include "snapshot/drain/pack_stream.h"
#include "snapshot/drain/range_reader.h"

namespace nodesnap {

class DrainWorker {
public:
    static constexpr std::size_t kAllBuffers = 32;  // of 1 MiB, shared out among the workers

    DrainWorker(DrainState& state, unsigned index, unsigned workers);
    ~DrainWorker();

    // Until the queue has nothing more; then the worker's packs are durable. Throws what failed.
    void run();

private:
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
    Task<void> drain_content(FileDescriptor file, const SourceDirectory& directory, const SourceEntry& entry, SourceInode source,
                             Records records, std::string path);
    void push_large(FileDescriptor file, std::uint64_t ino, SourceInode source, std::optional<Counterpart> stored, std::string path);
    void skip_file();
    void add_whole_file(std::uint64_t ino, const Inode& inode, Records records);
    Task<void> drain_inline(int fd, std::uint64_t ino, Inode inode, Records records, std::string path);
    Task<void> drain_one_segment(int fd, std::uint64_t ino, Inode inode, std::optional<Inode> stored, Records records, std::string path);
    Task<void> drain_range(std::shared_ptr<ChunkInProgress> chunk, FileRange range);
    Task<void> drain_other(const SourceDirectory& directory, const SourceEntry& entry, std::string path);
    Task<Records> drain_xattrs(std::uint64_t ino, std::vector<SourceXattr> xattrs);
    Task<std::int64_t> open_entry(const SourceDirectory& directory, const SourceEntry& entry, int flags);
    Task<std::int64_t> open_source(const SourceDirectory& directory, const SourceEntry& entry);

    template <typename Read>
    static auto read_source(Read read);
    SourceInode read_inode(int fd, const SourceEntry& entry, bool has_flags, const std::string& path);
    void add_placeholder(const SourceEntry& entry, const std::string& path, const Error& error);

    DrainState& state_;
    unsigned index_;
    unsigned workers_;
    std::size_t units_;  // files and ranges in flight at most
    Ring ring_;
    BufferPool buffers_;
    PackStream packs_;
    RangeReader reader_;
    std::size_t active_ = 0;
    std::shared_ptr<BatchInProgress> batch_;
    std::shared_ptr<ChunkInProgress> chunk_;
};

}  // namespace nodesnap

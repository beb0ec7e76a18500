// SourceWalk: finds all that is to be backed up below one directory, in the order in which directories list it, and feeds the work queue.
//
// Depth first, with one open directory per level, at most kOpenLevels of them (deeper trees close and reopen upper levels at their
// position), so that memory is bounded by the depth and not by the number of entries. Paths may be longer than PATH_MAX. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "platform/directory_stream.h"
#include "platform/error.h"
#include "snapshot/drain/catalog.h"
#include "snapshot/drain/work_queue.h"
#include "snapshot/exclude.h"

namespace nodesnap {

FileType file_type_of(std::uint8_t d_type);

class SourceWalk {
public:
    // What couldn't be read is given to `unreadable`, which throws or lets the walk go on without it.
    using UnreadableSink = std::function<void(const std::string& path, const Error& error)>;
    SourceWalk(int root, std::uint64_t root_ino, const ExcludeRules& excludes, Catalog& catalog, WorkQueue& queue,
               UnreadableSink unreadable);

    // Until everything was pushed, or the queue was aborted.
    void run();

    std::uint64_t directories() const { return directories_; }

private:
    static constexpr std::size_t kOpenLevels = 64;
    static constexpr std::size_t kBatchEntries = 128;

    struct Level {
        std::shared_ptr<SourceDirectory> directory;
        std::optional<DirectoryStream> stream;  // none while it is closed to save descriptors
        std::int64_t cookie = 0;
        std::unique_ptr<Batch> batch;
        bool incomplete = false;
    };

    void enter(const std::string& path, std::uint64_t ino, FileDescriptor fd);
    void leave();
    void reopen(Level& level);
    bool read_entry(Level& level);
    void take_entry(Level& level, const DirectoryEntry& entry);
    void add_to_batch(Level& level, SourceEntry entry);
    void flush(Level& level);

    int root_;
    std::uint64_t root_ino_;
    const ExcludeRules& excludes_;
    Catalog& catalog_;
    WorkQueue& queue_;
    UnreadableSink unreadable_;
    std::vector<Level> levels_;
    std::uint64_t directories_ = 0;
};

}  // namespace nodesnap

// SourceWalk: finds all that is to be backed up below one directory, in the order in which directories list it, and tells a sink.
//
// Depth first, with one open directory per level, at most kOpenLevels of them (deeper trees close and reopen upper levels at their
// position), so that memory is bounded by the depth and the length of its names, not by the number of entries. Paths may be longer than
// PATH_MAX. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "platform/directory_stream.h"
#include "platform/error.h"
#include "snapshot/drain/source_directory.h"
#include "snapshot/exclude.h"
#include "snapshot/repository/records.h"

namespace nodesnap {

class CloneIndex;
class Counterparts;

FileType file_type_of(std::uint8_t d_type);

class SourceSink {
public:
    virtual ~SourceSink() = default;
    virtual void found(std::uint64_t directory, const std::string& name, const Dirent& dirent) = 0;
    virtual void take(std::unique_ptr<Batch> batch) = 0;  // may wait
    // Throws, or lets the walk go on without it.
    virtual void unreadable(const std::string& path, const Error& error) = 0;
    // A directory whose entries were found but which can't be opened any more.
    virtual void lost(std::uint64_t directory) = 0;
    virtual bool stopped() const = 0;
};

class SourceWalk {
public:
    // `counterparts`: of which each directory is to have its own; or nullptr. `clones`: of what is below `root`, if these are
    // such: then it goes by the numbers of what they are clones of; so does `root_ino`.
    SourceWalk(int root, std::uint64_t root_ino, const ExcludeRules& excludes, SourceSink& sink, const Counterparts* counterparts = nullptr,
               const CloneIndex* clones = nullptr);

    // Until the sink was told everything, or is stopped. Throws what the sink throws, and Error::failed when it is interrupted.
    void run();

private:
    static constexpr std::size_t kOpenLevels = 64;
    static constexpr std::size_t kBatchEntries = 128;

    struct Level {
        std::shared_ptr<SourceDirectory> directory;
        std::optional<DirectoryStream> stream;  // none while it is closed to save descriptors
        std::int64_t cookie = 0;
        std::size_t path_length = 0;  // of path_
        std::unique_ptr<Batch> batch;
        bool incomplete = false;
    };

    void enter(const std::string& name, std::uint64_t ino, FileDescriptor fd);
    void find_counterpart(const std::string& name);
    void leave();
    void reopen(Level& level, const SourceDirectory& child);
    std::uint64_t number_of(int directory) const;
    bool find_number(Level& level, DirectoryEntry& entry) const;
    FileDescriptor open_parent(const SourceDirectory& child, std::uint64_t ino) const;
    bool read_entry(Level& level);
    void take_entry(Level& level, DirectoryEntry& entry);
    void take_directory(Level& level, const DirectoryEntry& entry);
    void add_to_batch(Level& level, SourceEntry entry);
    void flush(Level& level);

    int root_;
    std::uint64_t root_ino_;
    const ExcludeRules& excludes_;
    SourceSink& sink_;
    const Counterparts* counterparts_;
    const CloneIndex* const clones_;
    std::vector<Level> levels_;
    std::string path_;  // of the directory that is being read
};

}  // namespace nodesnap

// Sorted runs of (key, value) entries in one unlinked file; what ExternalSorter spills into.
//
// A run is a range of the file: entries of two lengths (4 bytes each), key, value. Writing and reading go through buffers of a fixed size,
// and pages are dropped from the page cache behind both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "platform/file_descriptor.h"
#include "snapshot/repository/external_sorter.h"

namespace nodesnap {

inline constexpr std::size_t kSorterBufferBytes = 256U << 10;

// A new file without a name, for reading and writing: it is gone when its descriptor is. Throws Error, with --scratch-dir as the remedy.
FileDescriptor open_unnamed(const std::string& directory);

struct SpilledRun {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
};

// One thread at a time.
class SpillFile {
public:
    // Has no name from the start: it is gone when the process is, however it ends.
    explicit SpillFile(const std::string& directory);

    void append(std::string_view key, std::string_view value);
    // What was appended since the last call, as one run.
    SpilledRun end_run();
    // No more appends follow: gives the write buffer back.
    void finish_writing();

    const std::vector<SpilledRun>& runs() const { return runs_; }
    std::uint64_t size() const { return size_; }
    int fd() const { return file_.get(); }
    const std::string& directory() const { return directory_; }

private:
    void write(std::string_view bytes);
    void flush();

    std::string directory_;
    FileDescriptor file_;
    std::vector<char> buffer_;
    std::uint64_t flushed_ = 0;
    std::uint64_t size_ = 0;
    std::uint64_t run_begin_ = 0;
    std::vector<SpilledRun> runs_;
};

// Reads one run from front to back. The views stay until the next call of next().
class RunReader {
public:
    RunReader(const SpillFile& file, const SpilledRun& run);
    bool next();
    std::string_view key() const { return key_; }
    std::string_view value() const { return value_; }

private:
    // The next `length` bytes, in place; more than the buffer holds makes it larger.
    const char* take(std::size_t length);
    void fill(std::size_t wanted);

    const SpillFile* file_;
    std::uint64_t offset_;  // of what was read last
    std::uint64_t end_;
    std::vector<char> buffer_;
    std::size_t position_ = 0;
    std::size_t filled_ = 0;
    std::string_view key_, value_;
};

// Merges runs; entries of equal keys come in the order of the runs. Memory: a buffer per run.
class RunMerge {
public:
    RunMerge(const SpillFile& file, std::size_t first_run, std::size_t run_count);
    bool next();
    std::string_view key() const { return readers_[heap_.front()].key(); }
    std::string_view value() const { return readers_[heap_.front()].value(); }

private:
    bool after(std::size_t a, std::size_t b) const;

    std::vector<RunReader> readers_;
    std::vector<std::size_t> heap_;  // the reader with the smallest entry is at the front
    bool started_ = false;
};

}  // namespace nodesnap

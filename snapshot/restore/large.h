// RestoreLarge: a regular file that several workers fill together, a window each. Windows are handed out in order of offsets, so that what
// was written of it is known by one offset, up to which a later run needn't write again. Thread-safe. Memory: its map's cursor, and the
// windows that are out.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "snapshot/restore/file.h"
#include "snapshot/restore/parts.h"

namespace nodesnap {

struct RestoreWindow {
    std::uint64_t number = 0;
    std::uint64_t begin = 0;  // of its first byte in the file
    std::uint64_t end = 0;
    std::vector<RunPart> parts;
};

class RestoreLarge {
public:
    static constexpr std::size_t kWindowParts = 4096;
    static constexpr std::uint64_t kThreshold = 4ULL << 20;  // files with more data than this are worth sharing

    // Whether a file is filled in this way.
    static bool is_large(const Inode& inode);

    RestoreLarge(RestoreContext& context, std::unique_ptr<RestoreFile> file, std::shared_ptr<RestoreBatch> batch, std::size_t index);

    // Makes the file at the first call. nullopt when all of it has been handed out. Each window is answered by one window_done() when its
    // data has been written.
    std::optional<RestoreWindow> next_window();
    bool exhausted() const;
    void window_done(const RestoreWindow& window, std::uint64_t bytes);
    const RestoreFile& file() const { return *file_; }

private:
    void begin();
    bool cut(RestoreWindow& window, std::uint64_t& bytes);
    void finish();

    RestoreContext& context_;
    std::unique_ptr<RestoreFile> file_;
    std::shared_ptr<RestoreBatch> batch_;
    std::uint64_t entry_number_;
    std::uint64_t ino_ = 0;  // of the file that was made
    mutable std::mutex mutex_;
    std::optional<RestoreParts> parts_;
    RunPart part_;  // what is left of the one that is being handed out
    bool have_part_ = false;
    bool begun_ = false;
    bool exhausted_ = false;
    bool finished_ = false;
    bool failed_ = false;  // an error is on its way to whoever runs the restore: nothing counts as complete any more
    std::uint64_t next_number_ = 0;
    std::map<std::uint64_t, std::uint64_t> out_;  // windows that are out, with where they begin
    std::uint64_t handed_out_ = 0;                // all before it was
    std::uint64_t written_end_ = 0;
    std::uint64_t bytes_ = 0;
};

}  // namespace nodesnap

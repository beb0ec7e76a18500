// RestoreJob: where the data of a plan's reads goes: the small files of a slice, or a window of a large file. All calls come from one
// worker's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "snapshot/restore/assembly.h"
#include "snapshot/restore/file.h"
#include "snapshot/run_reader.h"

namespace nodesnap {

class RestoreJob {
public:
    virtual ~RestoreJob() = default;
    struct Sink {
        int fd = -1;
        int direct_fd = -1;                   // for what is aligned, if there is one
        RestoreAssembly* assembly = nullptr;  // if there is one, all goes there
    };
    virtual void planned(const std::vector<PlannedRead>& reads) = 0;  // before any of them is begun
    virtual Sink sink(std::uint32_t file) = 0;
    virtual void written(const Piece& piece) = 0;
    virtual void passed(const Piece& piece) = 0;  // nothing was written: what is there stays
    virtual const RestoreFile& file(std::uint32_t file) const = 0;
    virtual std::string path(std::uint32_t file) const = 0;
    std::uint64_t bytes() const { return bytes_; }

protected:
    std::uint64_t bytes_ = 0;  // written
};

// Files are made when their first data has come, and finished with their last.
class SliceJob final : public RestoreJob {
public:
    SliceJob(RestoreContext& context, std::vector<std::unique_ptr<RestoreFile>>& files);

    // False if nothing of the file is to be read, since someone else writes its inode.
    bool begin(std::uint32_t file);
    // All of its runs have been added to a plan, the last ones to the one that comes next.
    void all_planned(std::uint32_t file) { last_planned_.push_back(file); }

    void planned(const std::vector<PlannedRead>& reads) override;
    Sink sink(std::uint32_t file) override;
    void written(const Piece& piece) override;
    void passed(const Piece& piece) override;
    std::string path(std::uint32_t file) const override { return files_[file]->path(); }
    const RestoreFile& file(std::uint32_t file) const override { return *files_[file]; }

private:
    void release(std::uint32_t file);
    void complete(std::uint32_t file);

    RestoreContext& context_;
    std::vector<std::unique_ptr<RestoreFile>>& files_;
    struct State {
        std::uint64_t pending = 1;  // pieces, and one until all are planned
        std::uint64_t written_end = 0;
        bool foreign = false;
        bool wrote = false;
    };
    std::vector<State> states_;
    std::vector<std::uint32_t> last_planned_;
};

class WindowJob final : public RestoreJob {
public:
    WindowJob(const RestoreFile& file, RestoreAssembly* assembly) : file_(file), assembly_(assembly) {}
    void planned(const std::vector<PlannedRead>&) override {}
    Sink sink(std::uint32_t) override { return {file_.fd(), file_.direct_fd(), assembly_}; }
    void written(const Piece& piece) override { bytes_ += piece.length; }
    void passed(const Piece&) override {}
    const RestoreFile& file(std::uint32_t) const override { return file_; }
    bool assembled() const { return assembly_ != nullptr; }
    std::string path(std::uint32_t) const override { return file_.path(); }

private:
    const RestoreFile& file_;
    RestoreAssembly* const assembly_;
};

}  // namespace nodesnap

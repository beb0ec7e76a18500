#include "snapshot/backend/clone_tree.h"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "platform/entry.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/host.h"
#include "snapshot/backend/inode_clone.h"
#include "snapshot/drain/drain.h"
#include "snapshot/drain/source_walk.h"

namespace nodesnap {
namespace {

constexpr std::size_t kWaitingBatches = 64;
constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

// What is still to be done in a directory before it gets its own attributes: batches, and the walk, until it has left it.
using Pending = std::shared_ptr<std::atomic<std::size_t>>;

struct Work {
    Pending pending;
    std::unique_ptr<Batch> batch;
};

class TreeClone : public SourceSink {
public:
    TreeClone(int destination, InodeClone& inodes, const CloneTreeOptions& options)
        : destination_(destination), inodes_(inodes), options_(options) {}

    void run(int source, const ExcludeRules& excludes) {
        std::vector<std::jthread> threads;
        const unsigned workers = options_.workers != 0 ? options_.workers : std::min(cpu_count(), kDefaultWorkers);
        try {
            for (unsigned index = 0; index < workers; ++index) {
                threads.emplace_back([this] { work(); });
            }
            SourceWalk(source, stat_fd(source).stx_ino, excludes, *this).run();
        } catch (...) {
            fail(std::current_exception());
        }
        close();
        threads.clear();  // joins
        if (failure_) {
            std::rethrow_exception(failure_);
        }
    }

    void found(std::uint64_t, const std::string&, const Dirent&) override {}

    // From the walk's thread. The last batch of a directory ends with itself; those of all below it come before.
    void take(std::unique_ptr<Batch> batch) override {
        const std::uint64_t directory = batch->directory->ino;
        auto open = open_.find(directory);
        if (open == open_.end()) {
            make_directories(batch->directory->place.whole_path_of(""));
            open = open_.emplace(directory, std::make_shared<std::atomic<std::size_t>>(1)).first;
        }
        Work next{open->second, std::move(batch)};
        ++*next.pending;
        if (next.batch->entries.back().name.empty()) {
            --*next.pending;  // not to zero: this batch is pending
            open_.erase(open);
        }
        std::unique_lock lock(mutex_);
        room_.wait(lock, [this] { return waiting_.size() < kWaitingBatches || failed_; });
        waiting_.push_back(std::move(next));
        more_.notify_one();
    }

    void unreadable(const std::string& path, const Error& error) override { throw_unless_tolerated(path, error); }
    void lost(std::uint64_t) override {
        throw Error::failed("a directory of the node directory was moved while it was cloned", "stop all that writes to it");
    }
    bool stopped() const override { return failed_; }

private:
    // With those above it: the walk comes to what is below a directory before it has told of all of that.
    void make_directories(const std::string& path) const {
        if (const FileDescriptor there(try_open_long(destination_, path, kDirectory)); there) {
            return;
        }
        FileDescriptor above = open_long(destination_, "", kDirectory);
        for (std::size_t begin = 0; begin < path.size();) {
            const std::size_t end = std::min(path.find('/', begin), path.size());
            const std::string name = path.substr(begin, end - begin);
            int made = entry::make_directory(above.get(), name, 0700);
            FileDescriptor next(made == EEXIST || made == 0 ? try_open_long(above.get(), name, kDirectory) : -1);
            if (made == EEXIST && next.get() == -ENOTDIR) {  // a link of a file that had this name when all was listed ahead
                entry::remove(above.get(), name);
                made = entry::make_directory(above.get(), name, 0700);
                next.reset(try_open_long(above.get(), name, kDirectory));
            }
            if (!next) {
                throw Error::system("create", "the clone of " + path.substr(0, end), made != 0 && made != EEXIST ? made : -next.get());
            }
            above = std::move(next);
            begin = end + 1;
        }
    }

    void work() noexcept {
        try {
            for (Work next = take_next(); next.batch; next = take_next()) {
                clone_batch(next);
            }
        } catch (...) {
            fail(std::current_exception());
        }
    }

    Work take_next() {
        std::unique_lock lock(mutex_);
        more_.wait(lock, [this] { return !waiting_.empty() || closed_ || failed_; });
        if (waiting_.empty() || failed_) {
            return {};
        }
        Work next = std::move(waiting_.front());
        waiting_.pop_front();
        room_.notify_one();
        return next;
    }

    void clone_batch(const Work& work) {
        const SourceDirectory& directory = *work.batch->directory;
        const FileDescriptor to = open_long(destination_, directory.place.whole_path_of(""), kDirectory);
        for (const SourceEntry& entry : work.batch->entries) {
            if (stopped()) {
                return;
            }
            if (entry.d_type != DT_DIR) {  // itself, or one that has gone since it was listed
                clone_entry(directory, entry, to.get());
            }
        }
        if (--*work.pending == 0) {
            inodes_.finish_directory(directory.fd.get(), to.get(), directory.place.path_of(""));
        }
    }

    void clone_entry(const SourceDirectory& directory, const SourceEntry& entry, int to) {
        const std::string path = directory.place.path_of(entry.name);
        try {
            inodes_.clone(directory, entry, to, path);
            fault::step("snapshot.inode-cloned");
        } catch (const Error& error) {
            throw_unless_tolerated(path, error);
        }
    }

    // Gone, replaced, or come a second time under another name while the directory was listed.
    void throw_unless_tolerated(const std::string& path, const Error& error) const {
        const int number = error.error_number();
        if (number != ENOENT && number != ESTALE && number != EEXIST) {
            throw error;
        }
        if (!options_.tolerate_changes) {
            throw Error::failed("the node directory changed while it was cloned: " + path,
                                "stop all that writes to it until the snapshot is taken");
        }
    }

    void close() {
        const std::lock_guard lock(mutex_);
        closed_ = true;
        more_.notify_all();
    }

    void fail(std::exception_ptr failure) noexcept {
        const std::lock_guard lock(mutex_);
        if (!failure_) {
            failure_ = std::move(failure);
        }
        failed_ = true;
        more_.notify_all();
        room_.notify_all();
    }

    const int destination_;
    InodeClone& inodes_;
    const CloneTreeOptions options_;
    std::unordered_map<std::uint64_t, Pending> open_;  // the walk's: directories that it is in, by their numbers
    std::mutex mutex_;
    std::condition_variable more_, room_;
    std::deque<Work> waiting_;
    std::exception_ptr failure_;
    std::atomic<bool> failed_{false};
    bool closed_ = false;
};

}  // namespace

void clone_tree(int source, const std::string& source_path, int destination, InodeClone& inodes, const ExcludeRules& excludes,
                const CloneTreeOptions& options) {
    try {
        TreeClone(destination, inodes, options).run(source, excludes);
    } catch (const Error& error) {
        if (error.error_number() == 0) {
            throw;
        }
        throw Error(error.status(), error.message() + " (in " + source_path + ")", error.hint(), error.error_number());
    }
}

}  // namespace nodesnap

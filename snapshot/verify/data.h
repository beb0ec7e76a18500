// DataCheck: reads every segment of the packs that it is given, each pack once and in order, and checks every block. Workers with a ring
// each; memory is bounded by the read buffers' and by the packs' indexes' bytes, whatever the size.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "io/progress.h"
#include "io/throttle.h"
#include "snapshot/repository/repository.h"
#include "snapshot/verify/findings.h"

namespace nodesnap {

class DataCheck {
public:
    // `done` is told each pack of which every segment was read, and whether all of it was what was stored; by any thread.
    using Done = std::function<void(const PackReader&, bool whole)>;
    DataCheck(const Repository& repository, const VerifyOptions& options, Findings& findings, Progress& progress, Done done);
    ~DataCheck();  // stops the workers
    // Waits while the packs that aren't done take too much memory. Throws what a worker has thrown. The pack's reader must not be used by
    // the caller any more.
    void add(std::shared_ptr<const PackReader> pack);
    void finish();  // waits for all packs
    std::uint64_t bytes_read() const { return bytes_read_; }

private:
    friend class DataCheckWorker;
    static constexpr std::size_t kIndexBytes = 16U << 20;  // of the packs that aren't done, if there are several

    // A pack on its way: one worker's at a time. Counts for index_bytes_ until the last window of it is checked.
    struct Pack {
        Pack(DataCheck& check, std::shared_ptr<const PackReader> pack);
        Pack(const Pack&) = delete;
        Pack& operator=(const Pack&) = delete;
        ~Pack();
        DataCheck& check;
        std::shared_ptr<const PackReader> reader;
        std::size_t bytes;
        std::size_t windows = 0;  // begun and not yet checked
        bool all_begun = false;
        bool whole = true;
    };

    void work() noexcept;
    // nullptr when there is none: at the end (`ended`), or, unless it may `wait` for one, now.
    std::shared_ptr<Pack> take(bool wait, bool& ended);
    void stop() noexcept;

    const Repository& repository_;
    const VerifyOptions& options_;
    Findings& findings_;
    Progress& progress_;
    const Done done_;
    Throttle throttle_;
    unsigned workers_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::shared_ptr<Pack>> queue_;
    std::size_t index_bytes_ = 0;  // of the packs that aren't done
    bool closed_ = false;          // no more packs come
    bool stopped_ = false;         // workers end as soon as they can
    std::exception_ptr exception_;
    std::atomic<std::uint64_t> bytes_read_{0};
    std::vector<std::thread> threads_;
};

}  // namespace nodesnap

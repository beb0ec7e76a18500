#include "snapshot/verify/data.h"

#include <algorithm>

#include "io/buffer_pool.h"
#include "io/ring.h"
#include "platform/error.h"
#include "platform/host.h"
#include "platform/interrupt.h"
#include "snapshot/repository/pack_codec.h"
#include "snapshot/repository/pack_salvage.h"

namespace nodesnap {
namespace {

constexpr std::size_t kReadBytes = 1U << 20;
constexpr std::size_t kSlackBytes = 64U << 10;    // an encoded segment may be a little longer than its plaintext
constexpr std::size_t kBufferBudget = 40U << 20;  // of all workers
constexpr std::size_t kDepth = 6;                 // reads in flight of one worker, at most

std::uint64_t aligned_down(std::uint64_t offset) {
    return offset / kPackAlignment * kPackAlignment;
}
std::uint64_t aligned_up(std::uint64_t offset) {
    return aligned_down(offset + kPackAlignment - 1);
}

// Consecutive segments that are read at once.
struct Window {
    std::shared_ptr<const PackReader> pack;
    std::uint32_t first = 0;
    std::uint32_t end = 0;     // segment behind the last one
    std::uint64_t offset = 0;  // in the pack
    std::size_t length = 0;
};

}  // namespace

// One thread's share: takes packs one after the other and keeps several reads in flight.
class DataCheckWorker {
public:
    DataCheckWorker(DataCheck& check, std::size_t depth)
        : check_(check), depth_(depth), ring_(ring_options(check.options_)), pool_(ring_, {depth, kReadBytes + kSlackBytes}) {}

    void run() {
        for (std::size_t i = 0; i < depth_; ++i) {
            ring_.spawn(check_windows());
        }
        try {
            ring_.run();
        } catch (...) {
            drain();
            throw;
        }
    }

private:
    static Ring::Options ring_options(const VerifyOptions& options) {
        Ring::Options result;
        result.entries = 32;
        result.force_blocking = options.force_blocking;
        return result;
    }

    // Lets the other reads end, whose buffers are the pool's.
    void drain() noexcept {
        ended_ = true;
        pack_ = nullptr;
        while (!ring_.idle()) {
            try {
                ring_.step();
            } catch (...) {
                // The first one counts.
            }
        }
    }

    Task<void> check_windows() {
        Window window;
        while (next_window(window)) {
            Buffer buffer = co_await pool_.acquire();
            const auto wait = check_.throttle_.reserve(window.length);
            if (wait.count() > 0) {
                co_await ring_.sleep(wait);
            }
            const std::span<std::byte> data = buffer.span().first(window.length);
            bool media_error = false;
            try {
                co_await window.pack->reader().read(ring_, data, window.offset);
            } catch (const Error& error) {
                if (!is_media_error(error.error_number())) {
                    throw;
                }
                media_error = true;
            }
            if (media_error) {
                salvaging_read(window.pack->reader(), data, window.offset);
            }
            check_.bytes_read_.fetch_add(window.length, std::memory_order_relaxed);
            check_.progress_.bytes_done.fetch_add(window.length, std::memory_order_relaxed);
            check_window(window, data);
        }
    }

    // False when there is nothing left to read.
    bool next_window(Window& window) {
        if (ended_) {
            return false;
        }
        throw_if_interrupted();
        while (pack_ == nullptr || !window_of_pack(window)) {
            pack_ = check_.take();
            next_ = 0;
            if (pack_ == nullptr) {
                ended_ = true;
                return false;
            }
        }
        return true;
    }

    bool window_of_pack(Window& window) {
        const PackIndex& index = pack_->index();
        const auto dropped = [&](std::uint32_t number) { return index.segment(number).plain_length == 0; };
        while (next_ < index.size() && dropped(next_)) {
            ++next_;
        }
        if (next_ == index.size()) {
            return false;
        }
        window.pack = pack_;
        window.first = next_;
        window.offset = aligned_down(index.segment(next_).offset);
        std::uint64_t end = 0;
        do {
            end = index.segment(next_).offset + index.segment(next_).stored_length;
            ++next_;
        } while (next_ < index.size() && !dropped(next_) && index.segment(next_).offset >= end &&
                 index.segment(next_).offset + index.segment(next_).stored_length - window.offset <= kReadBytes);
        window.end = next_;
        window.length = std::min<std::uint64_t>(aligned_up(end), pack_->stored_bytes()) - window.offset;
        if (window.length > kReadBytes + kSlackBytes) {
            throw Error::damaged(pack_->object(), "segment " + std::to_string(window.first) + " is longer than a segment can be");
        }
        return true;
    }

    void check_window(const Window& window, std::span<const std::byte> data) {
        const PackIndex& index = window.pack->index();
        for (std::uint32_t number = window.first; number < window.end; ++number) {
            const Segment& segment = index.segment(number);
            const auto lost = lost_of(index, number, data.subspan(segment.offset - window.offset, segment.stored_length));
            if (!lost.empty()) {
                check_.findings_.add({window.pack->object(), describe(number, segment, lost.size()), false});
            }
            for (const LostSegments::Range& range : lost) {
                check_.findings_.lose(index.id(), range);
            }
        }
    }

    static std::string describe(std::uint32_t number, const Segment& segment, std::size_t lost) {
        return "segment " + std::to_string(number) + " (bytes " + std::to_string(segment.offset) + " to " +
               std::to_string(segment.offset + segment.stored_length - 1) + "): checksum mismatch" +
               (segment.codec == Codec::kNone
                    ? " in " + std::to_string(lost) + " of its " + std::to_string(block_count(segment.plain_length)) + " blocks"
                    : "");
    }

    // The blocks of a segment that aren't what was stored; all of an encoded one that can't be decoded.
    std::vector<LostSegments::Range> lost_of(const PackIndex& index, std::uint32_t number, std::span<const std::byte> stored) {
        const Segment& segment = index.segment(number);
        const Hasher& hasher = check_.repository_.hasher();
        std::span<const std::byte> plain = stored;
        if (segment.codec != Codec::kNone) {
            decoded_.resize(segment.plain_length);
            if (hasher(stored) != index.stored_checksum(number) || !decompress(stored, decoded_)) {
                return {{number, number, 0, LostSegments::kAll}};
            }
            plain = decoded_;
        }
        std::vector<LostSegments::Range> lost;
        const auto blocks = index.blocks(number);
        for (std::uint32_t i = 0; i < blocks.size(); ++i) {
            const std::uint32_t at = i * kChecksumBlock;
            const auto block = plain.subspan(at, std::min<std::size_t>(kChecksumBlock, plain.size() - at));
            if (hasher(block) != blocks[i]) {
                const bool last = at + block.size() == plain.size();
                lost.push_back({number, number, at, last ? LostSegments::kAll : at + kChecksumBlock});
            }
        }
        return lost;
    }

    DataCheck& check_;
    const std::size_t depth_;
    Ring ring_;
    BufferPool pool_;
    std::shared_ptr<const PackReader> pack_;
    std::uint32_t next_ = 0;
    bool ended_ = false;
    Bytes decoded_;
};

DataCheck::DataCheck(const Repository& repository, const VerifyOptions& options, Findings& findings, Progress& progress)
    : repository_(repository),
      options_(options),
      findings_(findings),
      progress_(progress),
      throttle_(options.limit_bytes_per_second),
      workers_(std::min(options.workers != 0 ? options.workers : cpu_count(), VerifyOptions::kWorkersLimit)) {
    try {
        for (unsigned i = 0; i < workers_; ++i) {
            threads_.emplace_back([this] { work(); });
        }
    } catch (...) {
        stop();
        throw;
    }
}

DataCheck::~DataCheck() {
    stop();
}

void DataCheck::stop() noexcept {
    std::deque<std::shared_ptr<const PackReader>> dropped;  // outside of the lock, which their ends take
    {
        const std::lock_guard lock(mutex_);
        stopped_ = true;
        dropped.swap(queue_);
    }
    dropped.clear();
    changed_.notify_all();
    for (std::thread& thread : threads_) {
        thread.join();
    }
    threads_.clear();
}

void DataCheck::work() noexcept {
    try {
        const std::size_t depth = std::clamp<std::size_t>(kBufferBudget / (kReadBytes + kSlackBytes) / workers_, 1, kDepth);
        DataCheckWorker(*this, depth).run();
    } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!exception_) {
            exception_ = std::current_exception();
        }
        stopped_ = true;
    }
    changed_.notify_all();
}

void DataCheck::add(std::shared_ptr<const PackReader> pack) {
    const std::size_t bytes = pack->index().memory_bytes();
    {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stopped_ || index_bytes_ == 0 || index_bytes_ + bytes <= kIndexBytes; });
        if (exception_) {
            std::rethrow_exception(exception_);
        }
        index_bytes_ += bytes;
    }
    // Counts until the last window of it is checked.
    std::shared_ptr<const PackReader> counted(pack.get(), [this, bytes, pack](const PackReader*) mutable {
        pack.reset();
        {
            const std::lock_guard lock(mutex_);
            index_bytes_ -= bytes;
        }
        changed_.notify_all();
    });
    pack.reset();
    {
        const std::lock_guard lock(mutex_);
        queue_.push_back(std::move(counted));
    }
    changed_.notify_all();
}

std::shared_ptr<const PackReader> DataCheck::take() {
    std::shared_ptr<const PackReader> pack;
    {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stopped_ || closed_ || !queue_.empty(); });
        if (stopped_ || queue_.empty()) {
            return nullptr;
        }
        pack = std::move(queue_.front());
        queue_.pop_front();
    }
    changed_.notify_all();
    return pack;
}

void DataCheck::finish() {
    {
        const std::lock_guard lock(mutex_);
        closed_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) {
        thread.join();
    }
    threads_.clear();
    if (exception_) {
        std::rethrow_exception(exception_);
    }
}

}  // namespace nodesnap

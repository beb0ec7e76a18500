#include "snapshot/verify/data.h"

#include <algorithm>
#include <chrono>

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
constexpr std::chrono::milliseconds kPoll{5};     // for more packs, while reads are in flight
constexpr std::size_t kDepth = 6;                 // reads in flight of one worker, at most

std::uint64_t aligned_down(std::uint64_t offset) {
    return offset / kPackAlignment * kPackAlignment;
}
std::uint64_t aligned_up(std::uint64_t offset) {
    return aligned_down(offset + kPackAlignment - 1);
}

// Consecutive segments that are read at once. `Pack` is DataCheck's.
template <typename Pack>
struct WindowOf {
    std::shared_ptr<Pack> pack;
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
    using Pack = DataCheck::Pack;
    using Window = WindowOf<Pack>;

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
            if (window.pack == nullptr) {
                co_await ring_.sleep(kPoll);
                continue;
            }
            Buffer buffer = co_await pool_.acquire();
            const auto wait = check_.throttle_.reserve(window.length);
            if (wait.count() > 0) {
                co_await ring_.sleep(wait);
            }
            const std::span<std::byte> data = buffer.span().first(window.length);
            bool media_error = false;
            try {
                co_await window.pack->reader->reader().read(ring_, data, window.offset);
            } catch (const Error& error) {
                if (!is_media_error(error.error_number())) {
                    throw;
                }
                media_error = true;
            }
            if (media_error) {
                salvaging_read(window.pack->reader->reader(), data, window.offset);
            }
            check_.bytes_read_.fetch_add(window.length, std::memory_order_relaxed);
            check_.progress_.bytes_done.fetch_add(window.length, std::memory_order_relaxed);
            check_window(window, data);
            --in_flight_;
            --window.pack->windows;
            tell_if_done(*window.pack);
            window.pack.reset();
        }
    }

    void tell_if_done(const Pack& pack) const {
        if (pack.all_begun && pack.windows == 0) {
            check_.done_(*pack.reader, pack.whole);
        }
    }

    // False when there is nothing left to read. Without a pack when there is nothing now: the thread isn't blocked while reads are in
    // flight, for whose ends those who bring more packs may wait.
    bool next_window(Window& window) {
        while (!ended_) {
            throw_if_interrupted();
            if (pack_ != nullptr && window_of_pack(window)) {
                return true;
            }
            pack_.reset();  // before the wait: who brings the next may wait for its room
            pack_ = check_.take(in_flight_ == 0, ended_);
            next_ = 0;
            if (pack_ == nullptr && !ended_) {
                return true;
            }
        }
        return false;
    }

    bool window_of_pack(Window& window) {
        const PackIndex& index = pack_->reader->index();
        const auto dropped = [&](std::uint32_t number) { return index.segment(number).plain_length == 0; };
        while (next_ < index.size() && dropped(next_)) {
            ++next_;
        }
        if (next_ == index.size()) {
            pack_->all_begun = true;
            tell_if_done(*pack_);
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
        window.length = std::min<std::uint64_t>(aligned_up(end), pack_->reader->stored_bytes()) - window.offset;
        if (window.length > kReadBytes + kSlackBytes) {
            throw Error::damaged(pack_->reader->object(), "segment " + std::to_string(window.first) + " is longer than a segment can be");
        }
        ++pack_->windows;
        ++in_flight_;
        return true;
    }

    void check_window(const Window& window, std::span<const std::byte> data) {
        const PackIndex& index = window.pack->reader->index();
        for (std::uint32_t number = window.first; number < window.end; ++number) {
            const Segment segment = index.segment(number);
            const auto lost = lost_of(index, number, data.subspan(segment.offset - window.offset, segment.stored_length));
            if (!lost.empty()) {
                window.pack->whole = false;
                check_.findings_.add({window.pack->reader->object(), describe(number, segment, lost.size()), false});
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
        const Segment segment = index.segment(number);
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
    std::shared_ptr<Pack> pack_;
    std::uint32_t next_ = 0;
    std::size_t in_flight_ = 0;  // windows
    bool ended_ = false;
    Bytes decoded_;
};

DataCheck::DataCheck(const Repository& repository, const VerifyOptions& options, Findings& findings, Progress& progress, Done done)
    : repository_(repository),
      options_(options),
      findings_(findings),
      progress_(progress),
      done_(std::move(done)),
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
    std::deque<std::shared_ptr<Pack>> dropped;  // outside of the lock, which their ends take
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
    auto counted = std::make_shared<Pack>(*this, std::move(pack));
    {
        const std::lock_guard lock(mutex_);
        queue_.push_back(std::move(counted));
    }
    changed_.notify_all();
}

DataCheck::Pack::Pack(DataCheck& data_check, std::shared_ptr<const PackReader> pack)
    : check(data_check), reader(std::move(pack)), bytes(reader->index().memory_bytes()) {}

DataCheck::Pack::~Pack() {
    reader.reset();
    {
        const std::lock_guard lock(check.mutex_);
        check.index_bytes_ -= bytes;
    }
    check.changed_.notify_all();
}

std::shared_ptr<DataCheck::Pack> DataCheck::take(bool wait, bool& ended) {
    std::shared_ptr<Pack> pack;
    {
        std::unique_lock lock(mutex_);
        if (wait) {
            changed_.wait(lock, [&] { return stopped_ || closed_ || !queue_.empty(); });
        }
        ended = stopped_ || (closed_ && queue_.empty());
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

#include "io/remote/remote_target.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "io/target/object_name.h"
#include "platform/file.h"
#include "platform/host.h"
#include "platform/random.h"

namespace nodesnap::remote {
namespace {

// A connection, and how many large objects are begun or opened on it.
struct Line {
    std::unique_ptr<RemoteConnection> connection;
    std::atomic<unsigned> objects{0};
};

class UsedLine {
public:
    explicit UsedLine(std::shared_ptr<Line> line) : line_(std::move(line)) {}
    UsedLine(UsedLine&& other) noexcept = default;
    UsedLine& operator=(UsedLine&&) = delete;
    UsedLine(const UsedLine&) = delete;
    UsedLine& operator=(const UsedLine&) = delete;
    ~UsedLine() {
        if (line_) {
            --line_->objects;
        }
    }
    RemoteConnection& operator*() const { return *line_->connection; }
    RemoteConnection* operator->() const { return line_->connection.get(); }

private:
    std::shared_ptr<Line> line_;
};

class RemoteWriter : public ObjectWriter {
public:
    RemoteWriter(UsedLine line, std::string place, std::string_view name, std::string_view staging_id)
        : line_(std::move(line)), place_(std::move(place)), request_(line_->new_request()) {
        line_->begin(request_, MessageWriter().text(name).text(staging_id).take());
    }
    ~RemoteWriter() override {
        if (!finished_) {
            try {
                line_->call(FrameKind::kDrop, request_);
            } catch (const Error&) {  // then the connection has ended, and with it the object
            }
        }
        line_->forget(request_);
    }
    Task<void> write(Ring& ring, std::span<const std::byte> data, std::uint64_t offset) override {
        if (finished_ || offset != next_) {
            throw Error::failed(place_ + ": written out of order");
        }
        next_ += data.size();
        co_await line_->write(ring, request_, data, offset);
    }
    Task<void> finish(Ring& ring) override {
        line_->check(request_);
        finished_ = true;
        co_await line_->call(ring, FrameKind::kFinish, request_, {}, next_);
    }

private:
    UsedLine line_;
    const std::string place_;
    const std::uint64_t request_;
    std::uint64_t next_ = 0;  // where the next write begins
    bool finished_ = false;
};

class RemoteReader : public ObjectReader {
public:
    RemoteReader(UsedLine line, std::string place, std::uint64_t opened, std::uint64_t size, Bytes tail)
        : line_(std::move(line)), place_(std::move(place)), opened_(opened), size_(size), tail_(std::move(tail)) {}
    ~RemoteReader() override { line_->tell(FrameKind::kClose, opened_); }
    std::uint64_t size() const override { return size_; }
    Task<void> read(Ring& ring, std::span<std::byte> into, std::uint64_t offset) override {
        if (!read_tail(into, offset)) {
            co_await line_->read(ring, opened_, into, offset);
        }
    }
    void read(std::span<std::byte> into, std::uint64_t offset) override {
        if (!read_tail(into, offset)) {
            line_->read(opened_, into, offset);
        }
    }

private:
    // True if it came with the object's size already.
    bool read_tail(std::span<std::byte> into, std::uint64_t offset) const {
        if (offset > size_ || into.size() > size_ - offset) {
            throw Error::damaged(place_, "it ends before byte " + std::to_string(offset + into.size()));
        }
        if (into.empty()) {
            return true;
        }
        if (offset < size_ - tail_.size()) {
            return false;
        }
        std::memcpy(into.data(), tail_.data() + (offset - (size_ - tail_.size())), into.size());
        return true;
    }

    UsedLine line_;
    const std::string place_;
    const std::uint64_t opened_;
    const std::uint64_t size_;
    const Bytes tail_;
};

class RemoteTarget : public Target {
public:
    RemoteTarget(RemoteOptions options, bool create) : options_(std::move(options)), session_(random_u64()) {
        lines_.push_back(dial(true, create));
    }

    std::string describe() const override { return options_.place; }
    std::string describe(std::string_view name) const override { return options_.place + "/" + std::string(name); }
    std::optional<std::string> local_directory() const override;
    int write_error() const override { return first().greeting().read_only ? EROFS : static_cast<int>(state().first); }
    std::optional<std::uint64_t> free_bytes() const override { return state().second; }

    bool create(std::string_view name, std::span<const std::byte> content) override {
        check_small(name, content.size());
        return flag_of(idlest().call_large(FrameKind::kCreate, MessageWriter().text(name).take(), content));
    }
    bool swap(std::string_view name, const std::optional<std::string>& expected, std::span<const std::byte> content) override {
        check_small(name, content.size());
        MessageWriter message;
        message.text(name).number(expected ? 1 : 0).text(expected.value_or(""));
        return flag_of(idlest().call_large(FrameKind::kSwap, message.take(), content));
    }
    std::optional<VersionedObject> load(std::string_view name, std::uint64_t limit) override { return load(FrameKind::kLoad, name, limit); }
    std::optional<VersionedObject> load_salvaging(std::string_view name, std::uint64_t limit) override {
        return load(FrameKind::kLoadSalvaging, name, limit);
    }
    bool remove(std::string_view name) override {
        check_object_name(name);
        return flag_of(idlest().call(FrameKind::kRemove, MessageWriter().text(name).take()));
    }
    void persist_removals(std::string_view folder) override { idlest().call(FrameKind::kPersist, MessageWriter().text(folder).take()); }
    void list(std::string_view prefix, const std::function<void(const ObjectEntry&)>& each) override;
    void abandon(const std::function<bool(std::string_view)>& given_up) override;

    std::unique_ptr<ObjectWriter> begin(std::string_view name, std::string_view staging_id) override {
        check_object_name(name);
        check_staging_id(staging_id);
        return std::make_unique<RemoteWriter>(line_for_object(), describe(name), name, staging_id);
    }
    std::unique_ptr<ObjectReader> open(std::string_view name) override;

private:
    std::shared_ptr<Line> dial(bool is_first, bool create);
    RemoteConnection& first() const;
    RemoteConnection& idlest() const;
    UsedLine line_for_object();
    std::pair<std::uint64_t, std::optional<std::uint64_t>> state() const;
    std::optional<VersionedObject> load(FrameKind kind, std::string_view name, std::uint64_t limit);

    static bool flag_of(const Bytes& answer) {
        MessageReader reader(answer);
        const bool flag = reader.number() != 0;
        reader.end();
        return flag;
    }
    void check_small(std::string_view name, std::size_t size) const {
        check_object_name(name);
        if (size > kSmallObjectLimit) {
            throw Error::failed(describe(name) + ": too large to be stored at once");
        }
    }

    const RemoteOptions options_;
    const std::uint64_t session_;
    mutable std::mutex mutex_;  // of lines_
    std::vector<std::shared_ptr<Line>> lines_;
    std::mutex dialing_;
    bool no_more_ = false;  // connections; of who holds dialing_
};

// The other host may be this one.
std::optional<std::string> RemoteTarget::local_directory() const {
    const Greeting& there = first().greeting();
    if (there.machine_id != machine_id() || there.directory.empty()) {
        return std::nullopt;
    }
    const auto here = stat_path(there.directory);
    return here && device_of(*here) == there.device && here->stx_ino == there.inode ? std::optional(there.directory) : std::nullopt;
}

std::shared_ptr<Line> RemoteTarget::dial(bool is_first, bool create) {
    auto line = std::make_shared<Line>();
    line->connection = std::make_unique<RemoteConnection>(options_.dial(is_first), session_, create);
    return line;
}

RemoteConnection& RemoteTarget::first() const {
    const std::lock_guard lock(mutex_);
    return *lines_.front()->connection;
}

RemoteConnection& RemoteTarget::idlest() const {
    const std::lock_guard lock(mutex_);
    return *(*std::min_element(lines_.begin(), lines_.end(), [](const auto& a, const auto& b) {
                return a->connection->queued_bytes() < b->connection->queued_bytes();
            }))->connection;
}

// One more connection where all have an object on them. That it can't be had is no error: those that are there do.
UsedLine RemoteTarget::line_for_object() {
    const auto least_used = [this] {
        const std::lock_guard lock(mutex_);
        return *std::min_element(lines_.begin(), lines_.end(), [](const auto& a, const auto& b) { return a->objects < b->objects; });
    };
    std::shared_ptr<Line> line = least_used();
    if (line->objects > 0) {
        const std::lock_guard dialing(dialing_);
        line = least_used();
        if (line->objects > 0 && !no_more_ && lines_.size() < options_.connections) {
            try {
                line = dial(false, false);
                const std::lock_guard lock(mutex_);
                lines_.push_back(line);
            } catch (const Error&) {
                no_more_ = true;
            }
        }
    }
    ++line->objects;
    return UsedLine(std::move(line));
}

std::pair<std::uint64_t, std::optional<std::uint64_t>> RemoteTarget::state() const {
    const Bytes answer = first().call(FrameKind::kState, {});
    MessageReader reader(answer);
    const std::uint64_t write_error = reader.number();
    const bool known = reader.number() != 0;
    const std::uint64_t bytes = reader.number();
    reader.end();
    return {write_error, known ? std::optional(bytes) : std::nullopt};
}

std::optional<VersionedObject> RemoteTarget::load(FrameKind kind, std::string_view name, std::uint64_t limit) {
    check_object_name(name);
    constexpr std::size_t kAround = 2 * kTextLimit;  // what stands before the content
    const Bytes answer =
        idlest().call(kind, MessageWriter().text(name).number(limit).take(), 0, std::min(limit, kSmallObjectLimit) + kAround);
    MessageReader reader(answer);
    if (reader.number() == 0) {
        reader.end();
        return std::nullopt;
    }
    VersionedObject object;
    object.error_number = static_cast<int>(std::min<std::uint64_t>(reader.number(), 4095));
    object.version = reader.text();
    const auto content = reader.rest();
    if (content.size() > limit) {
        throw Error::damaged(describe(name), "longer than such an object may be");
    }
    object.content.assign(content.begin(), content.end());
    return object;
}

std::unique_ptr<ObjectReader> RemoteTarget::open(std::string_view name) {
    check_object_name(name);
    UsedLine line = line_for_object();
    constexpr std::size_t kTail = std::size_t{64} << 10;
    std::uint64_t opened = 0;
    const Bytes answer = line->call(FrameKind::kOpen, MessageWriter().text(name).take(), kTail, kTail + kFrameHeaderBytes, &opened);
    MessageReader reader(answer);
    if (reader.number() == 0) {
        reader.end();
        return nullptr;
    }
    const std::uint64_t size = reader.number();
    const auto tail = reader.rest();
    if (tail.size() > size) {
        throw Error::failed(line->host() + ": an object's end is longer than the object");
    }
    return std::make_unique<RemoteReader>(std::move(line), describe(name), opened, size, Bytes(tail.begin(), tail.end()));
}

void RemoteTarget::list(std::string_view prefix, const std::function<void(const ObjectEntry&)>& each) {
    if (const std::string folder = folder_of(prefix); !folder.empty()) {
        check_object_name(folder);
    }
    idlest().call_in_parts(FrameKind::kList, MessageWriter().text(prefix).take(), [&](std::span<const std::byte> part) {
        for (MessageReader reader(part); !reader.at_end();) {
            ObjectEntry entry;
            entry.size = reader.number();
            entry.name = reader.text();
            if (!entry.name.starts_with(prefix)) {
                throw Error::failed(first().host() + ": lists \"" + entry.name + "\", which wasn't asked for");
            }
            each(entry);
        }
    });
}

void RemoteTarget::abandon(const std::function<bool(std::string_view)>& given_up) {
    std::vector<std::string> all;
    RemoteConnection& connection = idlest();
    connection.call_in_parts(FrameKind::kUnfinished, {}, [&](std::span<const std::byte> part) {
        for (MessageReader reader(part); !reader.at_end();) {
            std::string id = reader.text();
            if (given_up(id)) {
                all.push_back(std::move(id));
            }
        }
    });
    constexpr std::size_t kAtOnce = 1000;
    for (std::size_t i = 0; i < all.size(); i += kAtOnce) {
        MessageWriter message;
        for (std::size_t j = i; j < std::min(all.size(), i + kAtOnce); ++j) {
            message.text(all[j]);
        }
        connection.call(FrameKind::kGiveUp, message.take());
    }
}

}  // namespace

std::shared_ptr<Target> open_remote_target(RemoteOptions options, bool create) {
    return std::make_shared<RemoteTarget>(std::move(options), create);
}

}  // namespace nodesnap::remote

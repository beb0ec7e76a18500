#include "io/remote/remote_target.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "io/remote/lines.h"
#include "io/target/object_name.h"
#include "platform/file.h"
#include "platform/host.h"

namespace nodesnap::remote {
namespace {

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
            line_.count_read(into.size());
            co_await line_->read(ring, opened_, into, offset);
        }
    }
    void read(std::span<std::byte> into, std::uint64_t offset) override {
        if (!read_tail(into, offset)) {
            line_.count_read(into.size());
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
    RemoteTarget(const RemoteOptions& options, bool create)
        : place_(options.place), streams_(options.connections), lines_(options.dial, options.connections, create) {}

    std::string describe() const override { return place_; }
    std::string describe(std::string_view name) const override { return place_ + "/" + std::string(name); }
    std::optional<std::string> local_directory() const override;
    int write_error() const override { return first().greeting().read_only ? EROFS : static_cast<int>(state().first); }
    std::optional<std::uint64_t> free_bytes() const override { return state().second; }
    unsigned streams() const override { return streams_; }

    bool create(std::string_view name, std::span<const std::byte> content) override {
        check_small(name, content.size());
        return flag_of(idlest().call_large(FrameKind::kCreate, MessageWriter().text(name).take(), content));
    }
    bool swap(std::string_view name, const std::optional<std::string>& expected, std::span<const std::byte> content) override {
        check_small(name, content.size());
        MessageWriter message;
        message.text(name).number(expected ? 1 : 0).text(expected.value_or(""));
        // All on one connection, whose server then knows what this client holds.
        return flag_of(first().call_large(FrameKind::kSwap, message.take(), content));
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
        return std::make_unique<RemoteWriter>(lines_.to_write(), describe(name), name, staging_id);
    }
    std::unique_ptr<ObjectReader> open(std::string_view name) override;

private:
    RemoteConnection& first() const { return lines_.first(); }
    RemoteConnection& idlest() const { return lines_.idlest(); }
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

    const std::string place_;
    const unsigned streams_;
    Lines lines_;
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
    UsedLine line = lines_.to_read();
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
    return std::make_shared<RemoteTarget>(options, create);
}

}  // namespace nodesnap::remote

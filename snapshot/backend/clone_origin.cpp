#include "snapshot/backend/clone_origin.h"

#include <optional>

#include "platform/error.h"
#include "platform/xattr.h"

namespace nodesnap {
namespace {

constexpr std::uint8_t kVersion = 1;

template <typename Integer>
void put(Bytes& to, Integer value) {
    for (std::size_t i = 0; i < sizeof(value); ++i) {
        to.push_back(static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (8 * i)));
    }
}

void put(Bytes& to, const Time& time) {
    put(to, time.seconds);
    put(to, time.nanoseconds);
}

// Takes little-endian numbers off the front of a value; what goes beyond its end is zero, and makes it bad.
class Numbers {
public:
    explicit Numbers(std::span<const std::byte> value) : rest_(value) {}

    template <typename Integer>
    Integer take() {
        std::uint64_t value = 0;
        if (rest_.size() < sizeof(Integer)) {
            good_ = false;
            rest_ = {};
            return 0;
        }
        for (std::size_t i = 0; i < sizeof(Integer); ++i) {
            value |= std::to_integer<std::uint64_t>(rest_[i]) << (8 * i);
        }
        rest_ = rest_.subspan(sizeof(Integer));
        return static_cast<Integer>(value);
    }
    Time take_time() {
        const auto seconds = take<std::int64_t>();
        return {seconds, take<std::uint32_t>()};
    }
    bool good() const { return good_; }
    bool empty() const { return rest_.empty(); }

private:
    std::span<const std::byte> rest_;
    bool good_ = true;
};

// Not Error::damaged, which is of what is stored in a repository.
Error not_ours(const std::string& path, const char* what) {
    return Error::failed("in the snapshot, " + path + " " + what,
                         "something else than nodesnap has changed the snapshot: remove it with `nodesnap snapshot remove`, and run the "
                         "backup again");
}

CloneOrigin origin_in(const std::optional<std::vector<std::byte>>& value, const std::string& path) {
    if (!value) {
        throw not_ours(path, "doesn't say what it is a clone of");
    }
    return decode_clone_origin(*value, path);
}

}  // namespace

Bytes encode(const CloneOrigin& origin) {
    Bytes value;
    put(value, kVersion);
    put(value, origin.ino);
    put(value, origin.generation);
    put(value, origin.links);
    put(value, origin.flags);
    put(value, origin.accessed);
    put(value, origin.changed);
    put(value, origin.born);
    for (const UnwrittenRange& range : origin.unwritten) {
        put(value, range.offset);
        put(value, range.length);
    }
    return value;
}

CloneOrigin decode_clone_origin(std::span<const std::byte> value, const std::string& path) {
    Numbers numbers(value);
    const auto version = numbers.take<std::uint8_t>();
    CloneOrigin origin;
    origin.ino = numbers.take<std::uint64_t>();
    origin.generation = numbers.take<std::uint64_t>();
    origin.links = numbers.take<std::uint64_t>();
    origin.flags = numbers.take<std::uint32_t>();
    origin.accessed = numbers.take_time();
    origin.changed = numbers.take_time();
    origin.born = numbers.take_time();
    std::uint64_t end = 0;  // of the range before
    bool ascending = true;
    while (numbers.good() && !numbers.empty()) {
        UnwrittenRange range;
        range.offset = numbers.take<std::uint64_t>();
        range.length = numbers.take<std::uint64_t>();
        ascending = ascending && range.offset >= end && range.length != 0 && range.offset + range.length > range.offset;
        end = range.offset + range.length;
        origin.unwritten.push_back(range);
    }
    if (version != kVersion || !numbers.good() || !ascending) {
        throw not_ours(path, "says what nodesnap can't read of what it is a clone of");
    }
    return origin;
}

CloneOrigin read_clone_origin(int fd, bool o_path, const std::string& path) {
    return origin_in(o_path ? xattr::get_o_path(fd, kCloneOriginAttribute, path) : xattr::get(fd, kCloneOriginAttribute, path), path);
}

CloneOrigin read_clone_origin_at(int directory, const std::string& name, const std::string& path) {
    return origin_in(xattr::get_at(directory, name, kCloneOriginAttribute), path);
}

void write_clone_origin(int fd, bool o_path, const CloneOrigin& origin, const std::string& path) {
    const Bytes value = encode(origin);
    if (o_path) {
        xattr::set_o_path(fd, kCloneOriginAttribute, value, path);
    } else {
        xattr::set(fd, kCloneOriginAttribute, value, path);
    }
}

void apply(const CloneOrigin& origin, Inode& inode) {
    inode.generation = origin.generation;
    inode.links = origin.links;
    inode.flags = origin.flags;
    inode.accessed = origin.accessed;
    inode.changed = origin.changed;
    inode.born = origin.born;
}

}  // namespace nodesnap

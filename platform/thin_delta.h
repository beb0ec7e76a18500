// What thin_delta (thin-provisioning-tools) tells of two thin devices of one pool: which blocks both have in common.
//
// It is read as it comes, in constant memory: a fragmented device of a terabyte makes some hundred megabytes of it. Whatever isn't
// understood is an error, so that nothing is ever called the same by mistake.
//
// Errors: Error::failed with what is wrong. Threads: one at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace nodesnap::lvm {

struct BlockRange {
    enum class Kind { kSame, kDifferent, kLeftOnly, kRightOnly };
    Kind kind = Kind::kDifferent;
    std::uint64_t begin = 0;  // blocks of the pool
    std::uint64_t length = 0;
    bool operator==(const BlockRange&) const = default;
};

class ThinDeltaParser {
public:
    // Of the devices with these numbers. `take` gets all ranges that either has blocks in, ascending; block_bytes() is known then.
    ThinDeltaParser(std::uint64_t left, std::uint64_t right, std::function<void(const BlockRange&)> take);

    void add(std::string_view text);  // the next piece, of any length
    void finish() const;              // that was all: Error::failed if something is missing
    std::uint64_t block_bytes() const { return block_bytes_; }
    std::uint64_t left() const { return left_; }
    std::uint64_t right() const { return right_; }

private:
    using Attributes = std::map<std::string, std::string, std::less<>>;
    enum class Place { kBegin, kSuperblock, kDiff, kBehindDiff, kEnd };
    enum class Form { kOpening, kClosing, kWhole };

    void take_tag();
    void take_element(Form form, std::string_view name, const Attributes& attributes);
    void begin_superblock(const Attributes& attributes);
    void begin_diff(const Attributes& attributes);
    void take_range(std::string_view name, const Attributes& attributes);

    const std::uint64_t left_;
    const std::uint64_t right_;
    const std::function<void(const BlockRange&)> take_;
    Place place_ = Place::kBegin;
    bool in_tag_ = false;
    std::string tag_;  // without '<' and '>'
    std::uint64_t block_bytes_ = 0;
    std::uint64_t end_ = 0;  // of the range before
};

}  // namespace nodesnap::lvm

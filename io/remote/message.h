// What stands in the payloads: numbers, texts, and errors. A text is its length in 32 bits, and its bytes.
//
// MessageReader throws Error::failed for what is too short, too long or left over, whatever the bytes are.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "io/target/target.h"
#include "platform/error.h"

namespace nodesnap::remote {

inline constexpr std::size_t kTextLimit = std::size_t{16} << 10;  // of a name, a message, a path

class MessageWriter {
public:
    MessageWriter& number(std::uint64_t value);
    MessageWriter& text(std::string_view value);  // cut at kTextLimit
    MessageWriter& rest(std::span<const std::byte> bytes);
    Bytes take() { return std::move(bytes_); }
    std::size_t size() const { return bytes_.size(); }

private:
    Bytes bytes_;
};

class MessageReader {
public:
    explicit MessageReader(std::span<const std::byte> bytes) : left_(bytes) {}
    std::uint64_t number();
    std::string text();
    std::span<const std::byte> rest();
    bool at_end() const { return left_.empty(); }
    void end() const;  // nothing is left

private:
    std::span<const std::byte> take(std::uint64_t length);
    std::span<const std::byte> left_;
};

// Status, errno, message and hint.
Bytes encode_error(const Error& error);
// `host` said so.
Error decode_error(std::span<const std::byte> payload, const std::string& host);

}  // namespace nodesnap::remote

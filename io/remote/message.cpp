#include "io/remote/message.h"

#include <algorithm>
#include <array>

#include "io/little_endian.h"

namespace nodesnap::remote {

MessageWriter& MessageWriter::number(std::uint64_t value) {
    std::array<std::byte, sizeof value> bytes;
    store_little_endian(bytes, 0, value);
    return rest(bytes);
}

MessageWriter& MessageWriter::text(std::string_view value) {
    value = value.substr(0, kTextLimit);
    std::array<std::byte, sizeof(std::uint32_t)> length;
    store_little_endian(length, 0, static_cast<std::uint32_t>(value.size()));
    rest(length);
    return rest(std::as_bytes(std::span(value)));
}

MessageWriter& MessageWriter::rest(std::span<const std::byte> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
}

std::span<const std::byte> MessageReader::take(std::uint64_t length) {
    if (length > left_.size()) {
        throw Error::failed("a message ends too early");
    }
    const auto taken = left_.first(static_cast<std::size_t>(length));
    left_ = left_.subspan(taken.size());
    return taken;
}

std::uint64_t MessageReader::number() {
    return load_little_endian<std::uint64_t>(take(sizeof(std::uint64_t)), 0);
}

std::string MessageReader::text() {
    const auto length = load_little_endian<std::uint32_t>(take(sizeof(std::uint32_t)), 0);
    if (length > kTextLimit) {
        throw Error::failed("a message has a text of " + std::to_string(length) + " bytes in it");
    }
    const auto bytes = take(length);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::span<const std::byte> MessageReader::rest() {
    return take(left_.size());
}

void MessageReader::end() const {
    if (!left_.empty()) {
        throw Error::failed("a message is longer than its kind has it");
    }
}

Bytes encode_error(const Error& error) {
    return MessageWriter()
        .number(static_cast<std::uint64_t>(error.status()))
        .number(static_cast<std::uint64_t>(error.error_number()))
        .text(error.message())
        .text(error.hint())
        .take();
}

Error decode_error(std::span<const std::byte> payload, const std::string& host) {
    MessageReader reader(payload);
    const std::uint64_t status = reader.number();
    const std::uint64_t error_number = reader.number();
    const std::string message = reader.text();
    const std::string hint = reader.text();
    reader.end();
    constexpr std::uint64_t kLargestErrno = 4095;
    const bool known =
        status >= static_cast<std::uint64_t>(ExitStatus::kFailed) && status <= static_cast<std::uint64_t>(ExitStatus::kLocked);
    return Error(known ? static_cast<ExitStatus>(status) : ExitStatus::kFailed, host + ": " + message, hint,
                 static_cast<int>(std::min(error_number, kLargestErrno)));
}

}  // namespace nodesnap::remote

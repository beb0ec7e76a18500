#include "platform/random.h"

#include <sys/random.h>

#include <cerrno>

#include "platform/error.h"

namespace nodesnap {

void random_bytes(std::span<std::byte> into) {
    while (!into.empty()) {
        const ssize_t count = ::getrandom(into.data(), into.size(), 0);
        if (count > 0) {
            into = into.subspan(static_cast<std::size_t>(count));
        } else if (count < 0 && errno != EINTR) {
            throw Error::system("get random bytes", "", errno);
        }
    }
}

std::uint64_t random_u64() {
    std::uint64_t value = 0;
    random_bytes(std::as_writable_bytes(std::span(&value, 1)));
    return value;
}

}  // namespace nodesnap

#include "io/remote/greeting.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>
#include <span>
#include <string_view>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/interrupt.h"

namespace nodesnap::remote {
namespace {

constexpr std::string_view kWord = "nodesnap-remote ";
constexpr std::size_t kLongest = 1000;
constexpr int kSliceMs = 200;

// Up to the end of the line, and no byte more. What there is of it, if it ends before.
std::string read_line(int fd, std::chrono::seconds at_most) {
    const std::int64_t until_ns = monotonic_ns() + std::chrono::nanoseconds(at_most).count();
    std::string line;
    while (line.size() < kLongest) {
        if (at_most.count() != 0 && monotonic_ns() > until_ns) {
            throw Error::failed("nodesnap hasn't greeted within " + std::to_string(at_most.count()) + " s", "look what hangs on that host");
        }
        pollfd wait{fd, POLLIN, 0};
        throw_if_interrupted();
        if (::poll(&wait, 1, kSliceMs) <= 0) {
            continue;
        }
        char letter = 0;
        const ssize_t count = ::read(fd, &letter, 1);
        if (count == 0) {
            break;
        }
        if (count < 0) {
            if (errno == EINTR || errno == EAGAIN) {
                continue;
            }
            if (errno == ECONNRESET) {
                break;
            }
            throw Error::system("receive from", "the other side", errno);
        }
        line += letter;
        if (letter == '\n') {
            break;
        }
    }
    return line;
}

std::optional<unsigned> number_of(std::string_view text) {
    unsigned number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc() && end == text.data() + text.size() ? std::optional(number) : std::nullopt;
}

}  // namespace

void send_greeting(int fd) {
    const std::string line = std::string(kWord) + std::to_string(kLowestProtocol) + "-" + std::to_string(kHighestProtocol) + "\n";
    nodesnap::write_all(fd, std::as_bytes(std::span(line)), "the other side");
}

unsigned receive_greeting(int fd, std::chrono::seconds at_most) {
    const std::string line = read_line(fd, at_most);
    const std::string_view text = std::string_view(line).substr(0, line.find('\n'));
    if (line.empty()) {
        throw Error::failed("it ended without a word");
    }
    const auto dash = text.find('-', kWord.size());
    if (!text.starts_with(kWord) || dash == std::string_view::npos) {
        throw Error::failed("it says \"" + std::string(text) + "\", where nodesnap would have greeted",
                            "a shell that is started without a terminal must print nothing: look at what its startup files do there");
    }
    const auto lowest = number_of(text.substr(kWord.size(), dash - kWord.size()));
    const auto highest = number_of(text.substr(dash + 1, text.find(' ', dash) - dash - 1));
    if (!lowest || !highest) {
        throw Error::failed("it greets with \"" + std::string(text) + "\", which this version doesn't understand");
    }
    const unsigned best = std::min(*highest, kHighestProtocol);
    if (best < std::max(*lowest, kLowestProtocol)) {
        throw Error::failed("it speaks versions " + std::string(text.substr(kWord.size())) + " of the protocol, this one " +
                                std::to_string(kLowestProtocol) + " to " + std::to_string(kHighestProtocol),
                            "install versions of nodesnap that are nearer to each other on both hosts");
    }
    return best;
}

}  // namespace nodesnap::remote

// What nodesnap and its guard say to each other, over a socket of whole messages (SOCK_SEQPACKET) that ends when one of them does.
//
//     nodesnap                     guard
//              <-- ready           has all that it needs; or refused, and it ends
//     hold     -->
//              <-- working         once a second, as long as something is waited for
//              <-- held            or failed: all is as before, and it ends; or still held, as below
//     release  -->
//              <-- working
//              <-- released        what was held runs; or still held: it may not run, and the guard stays and goes on trying
//              <-- finished        the intent is removed; it ends
//
// The guard lets go on the end of the socket, on the end of nodesnap's process, and when max_downtime is over; in the last case it still
// answers `release`.
//
// Errors: Error::system. Threads: one for each end.
#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <string_view>

#include "platform/error.h"

namespace nodesnap::hold {

enum class Kind : std::uint32_t { kReady, kHold, kWorking, kHeld, kRelease, kReleased, kFailed, kStillHeld, kFinished };

struct Message {
    static constexpr std::size_t kTextBytes = 1000;

    Kind kind = Kind::kWorking;
    std::int32_t status = 0;       // kFailed, kStillHeld: ExitStatus. kRelease: Reason
    std::int64_t began_ns = 0;     // kHeld, kReleased: monotonic_ns()
    std::int64_t released_ns = 0;  // kReleased
    char text[kTextBytes] = {};    // kReady, kFinished: a warning. kReleased: why the hold was broken. kFailed, kStillHeld: what failed
    char hint[kTextBytes] = {};    // kFailed, kStillHeld

    void set_text(std::string_view value) noexcept;  // its beginning
    void add_text(std::string_view value) noexcept;
    static Message failure(const std::exception& error) noexcept;  // with status and hint if it is an Error
    Error error() const;
};

// False if the other end is gone.
bool send_message(int socket, const Message& message);
// Waits until `deadline_ns` (monotonic_ns()), or a signal comes. kGone: the other end is, or the process `pidfd` (-1: none) has ended and
// left no message.
enum class Receive { kMessage, kTimeout, kGone };
Receive receive_message(int socket, Message& message, std::int64_t deadline_ns, int pidfd = -1);

// The longest that a guard may say nothing while it is waited for.
inline constexpr std::int64_t kSilenceNs = 5'000'000'000;

}  // namespace nodesnap::hold

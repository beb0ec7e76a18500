// The line with which each end begins, before the first frame: "nodesnap-remote 1-1\n", the versions of the protocol that it speaks. What a
// shell of the other host prints beforehand is told apart by it.
#pragma once

#include <chrono>
#include <functional>
#include <string>

namespace nodesnap::remote {

inline constexpr unsigned kLowestProtocol = 1;
inline constexpr unsigned kHighestProtocol = 1;

void send_greeting(int fd);
// The highest version that both speak. Error::failed if there is none, or what comes is something else. `quoted` makes of that something to
// be shown. Looks about each fifth of a second whether it was interrupted. An empty result: the other side has ended without a word.
// `at_most`: Error::failed after that time; 0: however long somebody types a password.
unsigned receive_greeting(int fd, std::chrono::seconds at_most = std::chrono::seconds(0));

}  // namespace nodesnap::remote

#include "platform/interrupt.h"

#include <atomic>
#include <csignal>
#include <string>

#include "platform/error.h"

namespace nodesnap::interrupt {
namespace {

std::atomic<int> received{0};
static_assert(std::atomic<int>::is_always_lock_free, "written from a signal handler");

extern "C" void nodesnap_on_signal(int signal) {
    received.store(signal);
}

const char* name_of(int signal) {
    switch (signal) {
        case SIGINT:
            return "SIGINT";
        case SIGHUP:
            return "SIGHUP";
        default:
            return "SIGTERM";
    }
}

}  // namespace

void install() {
    struct sigaction action {};
    action.sa_handler = nodesnap_on_signal;
    sigemptyset(&action.sa_mask);
    // Without SA_RESTART a blocking wait ends with EINTR, and whoever waits looks at the flag.
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        struct sigaction old {};
        ::sigaction(signal, nullptr, &old);
        if (signal == SIGHUP && old.sa_handler == SIG_IGN) {
            continue;  // started by nohup
        }
        ::sigaction(signal, &action, nullptr);
    }
    action.sa_handler = SIG_IGN;
    ::sigaction(SIGPIPE, &action, nullptr);
}

bool interrupted() noexcept {
    return received.load(std::memory_order_relaxed) != 0;
}

void throw_if_interrupted() {
    const int signal = received.load(std::memory_order_relaxed);
    if (signal != 0) {
        throw Error::failed(std::string("interrupted by ") + name_of(signal));
    }
}

void request() noexcept {
    received.store(SIGTERM);
}
void clear() noexcept {
    received.store(0);
}

}  // namespace nodesnap::interrupt

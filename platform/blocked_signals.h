// BlockedSignals: while it lives, this thread takes no signals, and threads that it starts never do: they are for those that are meant to
// handle them. Of one thread.
#pragma once

#include <csignal>

namespace nodesnap {

class BlockedSignals {
public:
    BlockedSignals() {
        sigset_t all;
        sigfillset(&all);
        ::pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    BlockedSignals(const BlockedSignals&) = delete;
    BlockedSignals& operator=(const BlockedSignals&) = delete;
    ~BlockedSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

private:
    sigset_t before_{};
};

}  // namespace nodesnap

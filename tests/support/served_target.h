// A RemoteTarget whose servers run in threads of this process, over socket pairs in the place of ssh.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "io/remote/remote_target.h"
#include "io/remote/server.h"

namespace nodesnap::test {

struct ServedTargetOptions {
    unsigned connections = 3;
    bool use_io_uring = true;
    bool read_only = false;
};

// A way to what is at the other end of a socket pair, in this process.
class PairTransport : public remote::Transport {
public:
    FileDescriptor take_in() override { return std::move(in_); }
    FileDescriptor take_out() override { return std::move(out_); }
    std::string describe() const override { return "far"; }
    std::string last_words() override { return ""; }

protected:
    PairTransport();
    FileDescriptor take_far_end() { return std::move(far_end_); }
    void close() {
        in_.reset();
        out_.reset();
    }

private:
    FileDescriptor in_, out_, far_end_;
};

// A way to a server of `options` in a thread of its own.
std::unique_ptr<remote::Transport> serve_in_thread(const remote::ServeOptions& options);
// The same `target`, served.
std::shared_ptr<Target> open_served_target(std::shared_ptr<Target> target, const ServedTargetOptions& options = {});

}  // namespace nodesnap::test

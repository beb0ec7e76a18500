#include "tests/support/served_target.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <thread>
#include <utility>

#include "platform/error.h"

namespace nodesnap::test {
namespace {

class ThreadTransport : public PairTransport {
public:
    explicit ThreadTransport(const remote::ServeOptions& options) {
        std::signal(SIGPIPE, SIG_IGN);  // as the program does it
        server_ = std::thread([options, end = take_far_end().release()] {
            FileDescriptor socket(end);
            FileDescriptor copy(::dup(end));
            try {
                remote::serve(std::move(socket), std::move(copy), options);
            } catch (const Error&) {  // the client has heard of it, or has gone
            }
        });
    }
    ~ThreadTransport() override {
        close();
        server_.join();
    }

private:
    std::thread server_;
};

}  // namespace

PairTransport::PairTransport() {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
        throw Error::system("make", "a socket pair", errno);
    }
    in_.reset(ends[0]);
    out_.reset(::dup(ends[0]));
    far_end_.reset(ends[1]);
}

std::unique_ptr<remote::Transport> serve_in_thread(const remote::ServeOptions& options) {
    return std::make_unique<ThreadTransport>(options);
}

std::shared_ptr<Target> open_served_target(std::shared_ptr<Target> target, const ServedTargetOptions& options) {
    remote::RemoteOptions remote_options;
    remote_options.place = "ssh://far/target";
    remote_options.connections = options.connections;
    remote_options.dial = [target = std::move(target), options](bool) {
        remote::ServeOptions serve;
        serve.open = [target](bool) { return target; };
        serve.read_only = options.read_only;
        serve.use_io_uring = options.use_io_uring;
        return serve_in_thread(serve);
    };
    return remote::open_remote_target(std::move(remote_options), false);
}

}  // namespace nodesnap::test

#include "io/remote/server.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "io/remote/channel.h"
#include "io/remote/greeting.h"
#include "io/remote/job_threads.h"
#include "io/remote/message.h"
#include "io/remote/payload_buffers.h"
#include "io/remote/served_objects.h"
#include "io/remote/small_requests.h"
#include "io/target/object_name.h"
#include "platform/clock.h"
#include "platform/file.h"
#include "platform/host.h"
#include "platform/interrupt.h"

namespace nodesnap::remote {
namespace {

constexpr std::size_t kAnswersQueued = std::size_t{64} << 20;  // bytes that jobs leave waiting to be sent
constexpr unsigned kPartsAhead = 4;                            // of a list

// How many more parts of a list the client wants.
struct PartCredit {
    unsigned parts = kPartsAhead;
    bool dropped = false;
};

class Server : private FrameChannel::Receiver {
public:
    Server(FileDescriptor in, FileDescriptor out, const ServeOptions& options)
        : options_(options), channel_(std::move(in), std::move(out), *this) {}

    void run() {
        channel_.start();
        {
            std::unique_lock lock(mutex_);
            while (!changed_.wait_for(lock, std::chrono::seconds(1), [this] { return ended_ || interrupted(); })) {
            }
        }
        channel_.stop();
        jobs_.reset();
        objects_.reset();
        if (!why_.empty()) {
            throw Error::failed("the connection has ended: " + why_);
        }
    }

private:
    std::span<std::byte> place_for(const FrameHeader& header) override;
    void received(const FrameHeader& header, std::span<std::byte> payload) override;
    void ended(const std::string& why) noexcept override;

    void hello(const FrameHeader& header, std::span<const std::byte> payload);
    bool take_large(const FrameHeader& header, std::span<const std::byte> payload);
    void take_small(const FrameHeader& header, std::span<const std::byte> payload);
    void collect(const FrameHeader& header, std::span<const std::byte> payload);
    void more_or_drop(const FrameHeader& header);
    void do_job(const FrameHeader& header, const Bytes& message, const Bytes& content) noexcept;
    // Who may only read runs none, since they may leave records of what was checked.
    bool may_run() const { return options_.run && !options_.read_only; }
    void run_command(const FrameHeader& header, const Bytes& message);
    bool is_dropped(std::uint64_t request);
    bool send_part(std::uint64_t request, Bytes part);
    void send_answer(std::uint64_t request, Bytes payload);
    void send_error(std::uint64_t request, const Error& error);
    void check_writable(FrameKind kind) const;
    ServedObjects::Answers object_answers();

    const ServeOptions options_;
    std::shared_ptr<Target> target_;
    FrameChannel channel_;
    std::unique_ptr<JobThreads> jobs_ = std::make_unique<JobThreads>();
    std::unique_ptr<ServedObjects> objects_;

    // Of the receiving thread.
    PayloadBuffers buffers_;
    PayloadBuffers::Buffer payload_;
    std::uint64_t collecting_ = 0;  // the request whose content comes in several frames
    Bytes collected_;

    std::atomic<std::uint64_t> unstored_{0};  // bytes of `write` that the client has no credit for again
    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<std::uint64_t, PartCredit> lists_;
    bool ended_ = false;
    std::string why_;
};

std::span<std::byte> Server::place_for(const FrameHeader& header) {
    if (header.kind == FrameKind::kWrite && (unstored_ += header.length) > kWriteCredit) {
        throw Error::failed("more was sent than there was credit for");
    }
    payload_ = buffers_.get(header.length);
    return payload_.span();
}

void Server::received(const FrameHeader& header, std::span<std::byte> payload) {
    if (header.kind == FrameKind::kAlive) {
        return;
    }
    if (header.kind == FrameKind::kError) {
        MessageReader reader(payload);
        throw decode_error(payload, "the client");
    }
    if (header.kind == FrameKind::kHello) {
        hello(header, payload);
        return;
    }
    if (target_ == nullptr) {
        throw Error::failed("the client asks before it has said who it is");
    }
    if (!take_large(header, payload)) {
        take_small(header, payload);
    }
}

void Server::ended(const std::string& why) noexcept {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    why_ = why;
    changed_.notify_all();
}

// What cannot be opened is told, and nothing else is done for this client.
void Server::hello(const FrameHeader& header, std::span<const std::byte> payload) {
    if (target_ != nullptr) {
        throw Error::failed("the client greets twice");
    }
    MessageReader message(payload);
    const std::uint64_t session = message.number();
    const bool make = message.number() != 0;
    message.text();  // its host
    message.end();
    try {
        if (make) {
            check_writable(FrameKind::kCreate);
        }
        target_ = options_.open(make);
    } catch (const Error& error) {
        send_error(header.request, error);
        return;
    }
    if (options_.greeted) {
        options_.greeted(target_, session);
    }
    const std::string directory = target_->local_directory().value_or("");
    const auto status = directory.empty() ? std::nullopt : stat_path(directory);
    objects_ = std::make_unique<ServedObjects>(target_, object_answers(), options_.use_io_uring);
    channel_.send({0, FrameKind::kAnswer, 0, header.request, 0}, MessageWriter()
                                                                     .number(kWriteCredit)
                                                                     .number(options_.read_only ? 1 : 0)
                                                                     .number(may_run() ? 1 : 0)
                                                                     .number(static_cast<std::uint64_t>(utc_now_ns()))
                                                                     .text(target_->describe())
                                                                     .text(host_name())
                                                                     .text(NODESNAP_VERSION)
                                                                     .text(machine_id())
                                                                     .text(directory)
                                                                     .number(status ? device_of(*status) : 0)
                                                                     .number(status ? status->stx_ino : 0)
                                                                     .take());
}

ServedObjects::Answers Server::object_answers() {
    ServedObjects::Answers answers;
    answers.answer = [this](std::uint64_t request, Bytes payload) { send_answer(request, std::move(payload)); };
    answers.fail = [this](std::uint64_t request, const Error& error) { send_error(request, error); };
    answers.data = [this](std::uint64_t request, std::uint64_t offset, std::span<const std::byte> data, std::function<void()> sent) {
        channel_.send({0, FrameKind::kPart, 0, request, offset}, data, std::move(sent));
    };
    answers.stored = [this](std::uint64_t bytes) {
        unstored_ -= bytes;
        channel_.send({0, FrameKind::kCredit, 0, 0, bytes});
    };
    return answers;
}

void Server::send_answer(std::uint64_t request, Bytes payload) {
    std::span<const std::byte> rest = payload;
    while (rest.size() > kPiece) {
        channel_.send({0, FrameKind::kPart, 0, request, 0}, Bytes(rest.begin(), rest.begin() + kPiece));
        rest = rest.subspan(kPiece);
    }
    channel_.send({0, FrameKind::kAnswer, 0, request, 0},
                  rest.size() == payload.size() ? std::move(payload) : Bytes(rest.begin(), rest.end()));
}

void Server::send_error(std::uint64_t request, const Error& error) {
    channel_.send({0, FrameKind::kError, 0, request, 0}, encode_error(error));
}

void Server::check_writable(FrameKind kind) const {
    if (options_.read_only && changes_something(kind)) {
        throw Error::refused("the repository is served for reading only", "use a key, or a way, that may write to it");
    }
}

// What is about a large object; false if it isn't.
bool Server::take_large(const FrameHeader& header, std::span<const std::byte> payload) {
    MessageReader message(payload);
    switch (header.kind) {
        case FrameKind::kBegin: {
            std::string name = message.text();
            std::string staging_id = message.text();
            message.end();
            try {
                check_writable(header.kind);
                objects_->begin(header.request, std::move(name), std::move(staging_id));
            } catch (const Error& error) {
                send_error(header.request, error);
            }
            return true;
        }
        case FrameKind::kWrite:
            objects_->write(header.request, std::move(payload_), header.number);
            return true;
        case FrameKind::kFinish:
            objects_->finish(header.request, header.number);
            return true;
        case FrameKind::kOpen:
            objects_->open(header.request, message.text(), header.number);
            return true;
        case FrameKind::kRead: {
            const std::uint64_t offset = message.number();
            objects_->read(header.request, header.number, offset, message.number());
            return true;
        }
        case FrameKind::kClose:
            objects_->close(header.request);
            return true;
        default:
            return false;
    }
}

void Server::take_small(const FrameHeader& header, std::span<const std::byte> payload) {
    if (header.kind == FrameKind::kContent) {
        collect(header, payload);
        return;
    }
    if (header.kind == FrameKind::kMore || header.kind == FrameKind::kDrop) {
        more_or_drop(header);
        return;
    }
    const auto content = std::make_shared<Bytes>();
    if (collecting_ == header.request) {
        *content = std::move(collected_);
        collected_ = {};
        collecting_ = 0;
    }
    if (is_answered_in_parts(header.kind) || header.kind == FrameKind::kRun) {
        const std::lock_guard lock(mutex_);
        lists_.try_emplace(header.request);
    }
    const auto message = std::make_shared<Bytes>(payload.begin(), payload.end());
    if (!jobs_->post([this, header, message, content] { do_job(header, *message, *content); })) {
        throw Error::failed("the client asks for more than " + std::to_string(JobThreads::kJobs) + " things at once");
    }
}

void Server::collect(const FrameHeader& header, std::span<const std::byte> payload) {
    if (collecting_ != header.request && !collected_.empty()) {
        throw Error::failed("two large requests come mixed");
    }
    if (payload.size() > kSmallObjectLimit - std::min(collected_.size(), kSmallObjectLimit)) {
        throw Error::failed("an object is too large to be stored at once");
    }
    collecting_ = header.request;
    collected_.insert(collected_.end(), payload.begin(), payload.end());
}

void Server::more_or_drop(const FrameHeader& header) {
    const std::lock_guard lock(mutex_);
    if (const auto found = lists_.find(header.request); found == lists_.end()) {
        if (header.kind == FrameKind::kDrop) {
            objects_->drop(header.request);
        }
    } else if (header.kind == FrameKind::kDrop) {
        found->second.dropped = true;
    } else {
        found->second.parts = std::min(found->second.parts + 1, kPartsAhead);
    }
    changed_.notify_all();
}

void Server::do_job(const FrameHeader& header, const Bytes& message, const Bytes& content) noexcept {
    Bytes answer;
    std::optional<Error> failure;
    try {
        if (is_answered_in_parts(header.kind)) {
            answer_in_parts(*target_, header.kind, message, [&](Bytes part) { return send_part(header.request, std::move(part)); });
        } else if (header.kind == FrameKind::kRun) {
            run_command(header, message);
        } else {
            check_writable(header.kind);
            answer = answer_small(*target_, header.kind, message, content);
            if (header.kind == FrameKind::kSwap && options_.swapped && MessageReader(answer).number() != 0) {
                const auto swapped = decode_swap(message, content);
                options_.swapped(swapped.name, swapped.content);
            }
        }
    } catch (const Error& error) {
        failure = error;
    } catch (const std::exception& error) {
        failure = Error::failed(error.what());
    }
    {
        const std::lock_guard lock(mutex_);
        lists_.erase(header.request);
    }
    if (failure) {
        send_error(header.request, *failure);
    } else {
        channel_.wait_queued_below(kAnswersQueued);  // who asks and doesn't read what is answered isn't served any further
        send_answer(header.request, std::move(answer));
    }
}

void Server::run_command(const FrameHeader& header, const Bytes& message) {
    if (!may_run()) {
        throw Error::refused("no commands are run here for other hosts", "give it on the repository's own");
    }
    std::vector<std::string> words;
    for (MessageReader reader(message); !reader.at_end();) {
        words.push_back(reader.text());
    }
    bool wanted = true;
    const auto say = [&](unsigned what, std::string_view text) {
        while (wanted && !text.empty()) {
            const std::string_view piece = text.substr(0, kPiece);
            wanted = send_part(header.request, MessageWriter().number(what).rest(std::as_bytes(std::span(piece))).take());
            text.remove_prefix(piece.size());
        }
    };
    const int status = options_.run(words, header.number != 0, say, [&] { return !wanted || is_dropped(header.request); });
    say(0, std::string(1, static_cast<char>(status)));
}

bool Server::is_dropped(std::uint64_t request) {
    const std::lock_guard lock(mutex_);
    return ended_ || lists_.at(request).dropped;
}

// Waits until the client wants one; false if it wants none any more.
bool Server::send_part(std::uint64_t request, Bytes part) {
    {
        std::unique_lock lock(mutex_);
        PartCredit& credit = lists_.at(request);
        changed_.wait(lock, [&] { return ended_ || credit.dropped || credit.parts > 0; });
        if (ended_ || credit.dropped) {
            return false;
        }
        --credit.parts;
    }
    channel_.send({0, FrameKind::kPart, 0, request, 0}, std::move(part));
    return true;
}

}  // namespace

void serve(FileDescriptor in, FileDescriptor out, const ServeOptions& options) {
    send_greeting(out.get());
    receive_greeting(in.get());
    Server(std::move(in), std::move(out), options).run();
}

}  // namespace nodesnap::remote

#include "io/remote/connection.h"

#include <algorithm>
#include <utility>

#include "io/remote/greeting.h"
#include "platform/host.h"

namespace nodesnap::remote {
namespace {

bool is_answer(FrameKind kind) {
    return kind == FrameKind::kAnswer || kind == FrameKind::kPart || kind == FrameKind::kError;
}

}  // namespace

Streams greeted_streams(Transport& transport, std::chrono::seconds at_most) {
    Streams streams{transport.take_in(), transport.take_out()};
    try {
        send_greeting(streams.out.get());
        receive_greeting(streams.in.get(), at_most);
        transport.greeted();
    } catch (const Error& error) {
        streams = {};
        const std::string host = transport.describe();
        const std::string words = transport.last_words();
        throw Error(ExitStatus::kFailed, "cannot reach nodesnap on " + host + ": " + (words.empty() ? error.message() : words),
                    words.empty() ? error.hint() : "try: ssh " + host + " nodesnap --version");
    }
    return streams;
}

RemoteConnection::RemoteConnection(std::unique_ptr<Transport> transport, std::uint64_t session, bool make)
    : transport_(std::move(transport)) {
    Streams streams = greeted_streams(*transport_);
    channel_ = std::make_unique<FrameChannel>(std::move(streams.in), std::move(streams.out), static_cast<FrameChannel::Receiver&>(*this));
    channel_->start();
    greet(session, make);
}

RemoteConnection::~RemoteConnection() = default;

void RemoteConnection::greet(std::uint64_t session, bool make) {
    const Bytes answer = call(FrameKind::kHello, MessageWriter().number(session).number(make ? 1 : 0).text(host_name()).take());
    MessageReader reader(answer);
    {
        const std::lock_guard lock(mutex_);
        credit_ = std::min(reader.number(), kWriteCredit);
    }
    greeting_.read_only = reader.number() != 0;
    greeting_.runs_commands = reader.number() != 0;
    greeting_.time_ns = static_cast<std::int64_t>(reader.number());
    greeting_.place = reader.text();
    greeting_.host = reader.text();
    greeting_.version = reader.text();
    greeting_.machine_id = reader.text();
    greeting_.directory = reader.text();
    greeting_.device = reader.number();
    greeting_.inode = reader.number();
}

std::uint64_t RemoteConnection::new_request() {
    const std::lock_guard lock(mutex_);
    return ++last_request_;
}

std::shared_ptr<RemoteConnection::Pending> RemoteConnection::expect(std::uint64_t request, std::size_t limit) {
    auto pending = std::make_shared<Pending>();
    pending->limit = limit;
    const std::lock_guard lock(mutex_);
    if (ended_) {
        throw end_error();
    }
    pending_[request] = pending;
    return pending;
}

Bytes RemoteConnection::result_of(Pending& pending) {
    if (pending.error) {
        throw Error(*pending.error);
    }
    return std::move(pending.answer);
}

Bytes RemoteConnection::call(FrameKind kind, Bytes payload, std::uint64_t number, std::size_t limit, std::uint64_t* request) {
    const std::uint64_t own = new_request();
    const auto pending = expect(own, limit);
    channel_->send({0, kind, 0, own, number}, std::move(payload));
    if (request != nullptr) {
        *request = own;
    }
    pending->done.wait();
    return result_of(*pending);
}

Bytes RemoteConnection::call(FrameKind kind, std::uint64_t request) {
    const auto pending = expect(request, kMaxPayload);
    channel_->send({0, kind, 0, request, 0});
    pending->done.wait();
    return result_of(*pending);
}

Task<Bytes> RemoteConnection::call(Ring& ring, FrameKind kind, std::uint64_t request, Bytes payload, std::uint64_t number) {
    const auto pending = expect(request, kMaxPayload);
    channel_->send({0, kind, 0, request, number}, std::move(payload));
    co_await pending->done.wait(ring);
    co_return result_of(*pending);
}

Bytes RemoteConnection::call_large(FrameKind kind, Bytes payload, std::span<const std::byte> content) {
    const std::uint64_t request = new_request();
    const auto pending = expect(request, kMaxPayload);
    std::unique_lock<std::mutex> alone;
    if (payload.size() + content.size() > kPiece) {
        alone = std::unique_lock(large_);
    }
    while (payload.size() + content.size() > kPiece) {
        const auto piece = content.first(std::min(content.size(), kPiece));
        channel_->send({0, FrameKind::kContent, 0, request, 0}, Bytes(piece.begin(), piece.end()));
        content = content.subspan(piece.size());
    }
    payload.insert(payload.end(), content.begin(), content.end());
    channel_->send({0, kind, 0, request, 0}, std::move(payload));
    pending->done.wait();
    return result_of(*pending);
}

void RemoteConnection::call_in_parts(FrameKind kind, Bytes payload, const std::function<void(std::span<const std::byte>)>& each,
                                     std::uint64_t number) {
    const std::uint64_t request = new_request();
    const auto pending = expect(request, kMaxPayload);
    {
        const std::lock_guard lock(mutex_);
        pending->in_parts = true;
    }
    channel_->send({0, kind, 0, request, number}, std::move(payload));
    const auto next_part = [&](Bytes& part) {
        std::unique_lock lock(mutex_);
        pending->changed.wait(lock, [&] { return !pending->parts.empty() || pending->complete; });
        if (pending->parts.empty()) {
            return false;
        }
        part = std::move(pending->parts.front());
        pending->parts.pop_front();
        return true;
    };
    try {
        for (Bytes part; next_part(part);) {
            each(part);
            tell(FrameKind::kMore, request, {}, 1);
        }
    } catch (...) {
        tell(FrameKind::kDrop, request);
        const std::lock_guard lock(mutex_);
        pending_.erase(request);
        throw;
    }
    result_of(*pending);
}

void RemoteConnection::tell(FrameKind kind, std::uint64_t request, Bytes payload, std::uint64_t number) {
    channel_->send({0, kind, 0, request, number}, std::move(payload));
}

void RemoteConnection::begin(std::uint64_t request, Bytes payload) {
    const auto pending = expect(request, kMaxPayload);
    channel_->send({0, FrameKind::kBegin, 0, request, 0}, std::move(payload));
    pending->done.wait();
    result_of(*pending);
    const std::lock_guard lock(mutex_);
    begun_.emplace(request, std::nullopt);
}

void RemoteConnection::check(std::uint64_t request) {
    const std::lock_guard lock(mutex_);
    if (ended_) {
        throw end_error();
    }
    if (const auto found = begun_.find(request); found != begun_.end() && found->second) {
        throw Error(*found->second);
    }
}

void RemoteConnection::forget(std::uint64_t request) {
    const std::lock_guard lock(mutex_);
    begun_.erase(request);
}

Task<void> RemoteConnection::write(Ring& ring, std::uint64_t request, std::span<const std::byte> data, std::uint64_t offset) {
    check(request);
    if (data.empty()) {
        co_return;
    }
    Signal sent;
    {
        const std::lock_guard lock(mutex_);
        if (ended_) {
            throw end_error();
        }
        writes_.push_back({request, data, offset, &sent});
        send_waiting_writes();
    }
    co_await sent.wait(ring);
    check(request);
}

// In their order, as far as there is credit. With mutex_ held.
void RemoteConnection::send_waiting_writes() {
    while (!writes_.empty()) {
        WaitingWrite& next = writes_.front();
        const auto piece = next.data.first(std::min(next.data.size(), kPiece));
        if (piece.size() > credit_) {
            return;
        }
        credit_ -= piece.size();
        const std::uint64_t offset = next.offset;
        next.data = next.data.subspan(piece.size());
        next.offset += piece.size();
        std::function<void()> sent = [] {};
        if (next.data.empty()) {
            sent = [signal = next.sent] { signal->set(); };
        }
        channel_->send({0, FrameKind::kWrite, 0, next.request, offset}, piece, std::move(sent));
        if (next.data.empty()) {
            writes_.pop_front();
        }
    }
}

std::shared_ptr<RemoteConnection::Pending> RemoteConnection::ask_read(std::uint64_t opened, std::span<std::byte> into,
                                                                      std::uint64_t offset) {
    auto pending = std::make_shared<Pending>();
    pending->into = into;
    pending->has_place = true;
    const std::uint64_t request = new_request();
    {
        const std::lock_guard lock(mutex_);
        if (ended_) {
            throw end_error();
        }
        pending_[request] = pending;
    }
    channel_->send({0, FrameKind::kRead, 0, request, opened}, MessageWriter().number(offset).number(into.size()).take());
    return pending;
}

Task<void> RemoteConnection::read(Ring& ring, std::uint64_t opened, std::span<std::byte> into, std::uint64_t offset) {
    const auto pending = ask_read(opened, into, offset);
    co_await pending->done.wait(ring);
    result_of(*pending);
}

void RemoteConnection::read(std::uint64_t opened, std::span<std::byte> into, std::uint64_t offset) {
    const auto pending = ask_read(opened, into, offset);
    pending->done.wait();
    result_of(*pending);
}

std::span<std::byte> RemoteConnection::place_for(const FrameHeader& header) {
    const std::lock_guard lock(mutex_);
    if (header.request > last_request_) {
        throw Error::failed("it answers what wasn't asked");
    }
    const auto found = pending_.find(header.request);
    if (found != pending_.end() && is_answer(header.kind) && header.kind != FrameKind::kError) {
        Pending& pending = *found->second;
        if (pending.has_place) {
            if (header.number > pending.into.size() || header.length > pending.into.size() - header.number) {
                throw Error::failed("it sends more than was asked for");
            }
            return pending.into.subspan(static_cast<std::size_t>(header.number), header.length);
        }
        if (!pending.in_parts) {
            if (header.length > pending.limit - pending.answer.size()) {
                throw Error::failed("its answer is longer than such an answer may be");
            }
            const std::size_t before = pending.answer.size();
            pending.answer.resize(before + header.length);
            return std::span(pending.answer).subspan(before);
        }
    }
    scratch_.resize(header.length);
    return scratch_;
}

void RemoteConnection::received(const FrameHeader& header, std::span<std::byte> payload) {
    const std::lock_guard lock(mutex_);
    if (header.kind == FrameKind::kAlive) {
        return;
    }
    if (header.kind == FrameKind::kCredit) {
        if (header.number > kWriteCredit - credit_) {
            throw Error::failed("it gives more credit than it had taken");
        }
        credit_ += header.number;
        send_waiting_writes();
        return;
    }
    if (!is_answer(header.kind)) {
        throw Error::failed("it says something of an unknown kind (" + std::to_string(static_cast<unsigned>(header.kind)) + ")");
    }
    if (const auto found = pending_.find(header.request); found != pending_.end()) {
        finish(header, *std::shared_ptr<Pending>(found->second), payload);
    } else if (header.kind == FrameKind::kError) {
        if (header.request == 0) {
            throw decode_error(payload, host());
        }
        if (const auto begun = begun_.find(header.request); begun != begun_.end() && !begun->second) {
            begun->second = decode_error(payload, host());
        }
    }
}

// A frame for `pending`, which is the last one if it isn't a part. With mutex_ held.
void RemoteConnection::finish(const FrameHeader& header, Pending& pending, std::span<std::byte> payload) {
    if (header.kind == FrameKind::kError) {
        pending.error = decode_error(payload, host());
    } else if (pending.has_place) {
        pending.received += payload.size();
        if (header.kind == FrameKind::kAnswer && pending.received != pending.into.size()) {
            throw Error::failed("it sends something else than was asked for");
        }
    } else if (pending.in_parts) {
        constexpr std::size_t kUnasked = 16;
        if (pending.parts.size() >= kUnasked) {
            throw Error::failed("it sends more than was asked for");
        }
        if (!payload.empty()) {
            pending.parts.emplace_back(payload.begin(), payload.end());
        }
    }
    if (header.kind == FrameKind::kPart) {
        pending.changed.notify_all();
        return;
    }
    pending.complete = true;
    pending.changed.notify_all();
    pending.done.set();
    pending_.erase(header.request);
}

void RemoteConnection::ended(const std::string& why) noexcept {
    std::string words;
    try {
        words = transport_->last_words();
    } catch (const std::exception&) {  // then it is told without them
    }
    const std::lock_guard lock(mutex_);
    ended_ = true;
    why_ended_ = words.empty() ? why : (why.empty() ? words : why + " (" + words + ")");
    for (const auto& [request, pending] : pending_) {
        pending->error = end_error();
        pending->complete = true;
        pending->changed.notify_all();
        pending->done.set();
    }
    pending_.clear();
    for (const WaitingWrite& write : writes_) {
        write.sent->set();
    }
    writes_.clear();
}

Error RemoteConnection::end_error() const {
    return Error(ExitStatus::kFailed,
                 "the connection to " + transport_->describe() + " has ended" + (why_ended_.empty() ? "" : ": " + why_ended_),
                 "look whether the host and the network are up, then give the command again: what is unfinished is gone on with");
}

}  // namespace nodesnap::remote

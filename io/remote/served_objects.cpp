#include "io/remote/served_objects.h"

#include <algorithm>
#include <exception>
#include <optional>
#include <stdexcept>
#include <utility>

#include "io/remote/frame.h"
#include "io/remote/message.h"
#include "io/target/object_name.h"

namespace nodesnap::remote {

// Of one `read`, whose pieces are read side by side.
struct ReadState {
    std::size_t pieces = 1;  // on their way, and one until all are begun
    std::optional<Error> error;
    AsyncEvent all_done;
    explicit ReadState(Ring& ring) : all_done(ring) {}
};

namespace {

Error error_of(std::exception_ptr failure) {
    try {
        std::rethrow_exception(failure);
    } catch (const Error& error) {
        return error;
    } catch (const std::exception& error) {
        return Error::failed(error.what());
    }
}

}  // namespace

ServedObjects::ServedObjects(std::shared_ptr<Target> target, Answers answers, bool use_io_uring)
    : target_(std::move(target)), answers_(std::move(answers)), use_io_uring_(use_io_uring), wake_(std::make_unique<Signal>()) {
    thread_ = std::thread([this] { run(); });
}

ServedObjects::~ServedObjects() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
        work_.clear();
        if (std::exchange(waiting_, false)) {
            wake_->set();
        }
    }
    thread_.join();
}

void ServedObjects::post(std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    if (ending_) {
        return;
    }
    work_.push_back(std::move(work));
    if (std::exchange(waiting_, false)) {
        wake_->set();
    }
}

void ServedObjects::run() {
    Ring::Options options;
    options.force_blocking = !use_io_uring_;
    ring_ = std::make_unique<Ring>(options);
    read_buffers_ = std::make_unique<AsyncSemaphore>(*ring_, kReadBuffers);
    ring_->spawn(take_work());
    try {
        ring_->run();
    } catch (const std::logic_error&) {
        // At the end reads wait for buffers that nobody gives back any more.
        if (!ending_) {
            throw;
        }
    }
    written_.clear();
    opened_.clear();
    sent_.clear();
}

// Ends when all is to end; what is on its way is ended by the ring's run().
Task<void> ServedObjects::take_work() {
    for (;;) {
        std::deque<std::function<void()>> work;
        {
            const std::lock_guard lock(mutex_);
            if (ending_) {
                co_return;
            }
            work.swap(work_);
            if (work.empty()) {
                wake_ = std::make_unique<Signal>();
                waiting_ = true;
            }
        }
        if (work.empty()) {
            co_await wake_->wait(*ring_);
        }
        for (const auto& each : work) {
            each();
        }
    }
}

void ServedObjects::begin(std::uint64_t request, std::string name, std::string staging_id) {
    post([this, request, name = std::move(name), staging_id = std::move(staging_id)] {
        auto object = std::make_shared<Written>();
        try {
            if (written_.size() >= kObjects) {
                throw Error::failed("more than " + std::to_string(kObjects) + " objects are written at once");
            }
            if (written_.contains(request)) {
                throw Error::failed("an object is begun twice");
            }
            check_object_name(name);
            check_staging_id(staging_id);
            object->writer = target_->begin(name, staging_id);
            written_.emplace(request, std::move(object));
            answers_.answer(request, {});
        } catch (...) {
            answers_.fail(request, error_of(std::current_exception()));
        }
    });
}

// Says what is wrong once; what comes for the object after that is thrown away.
void ServedObjects::fail(std::uint64_t request, Written& object, const Error& error) {
    if (!std::exchange(object.failed, true)) {
        answers_.fail(request, error);
    }
}

void ServedObjects::write(std::uint64_t request, PayloadBuffers::Buffer data, std::uint64_t offset) {
    // std::function wants what can be copied.
    post([this, request, offset, shared = std::make_shared<PayloadBuffers::Buffer>(std::move(data))] {
        const auto found = written_.find(request);
        if (found == written_.end() || found->second->failed || found->second->finishing || found->second->dropping) {
            answers_.stored(shared->span().size());
            return;
        }
        Written& object = *found->second;
        if (offset != object.length) {
            fail(request, object, Error::failed("an object is written out of order"));
            answers_.stored(shared->span().size());
            return;
        }
        object.length += shared->span().size();
        ++object.on_their_way;
        ring_->spawn(write_one(request, found->second, std::move(*shared), offset));
    });
}

Task<void> ServedObjects::write_one(std::uint64_t request, std::shared_ptr<Written> object, PayloadBuffers::Buffer data,
                                    std::uint64_t offset) {
    std::exception_ptr failure;
    try {
        co_await object->writer->write(*ring_, data.span(), offset);
    } catch (...) {
        failure = std::current_exception();
    }
    if (failure) {
        fail(request, *object, error_of(failure));
    }
    --object->on_their_way;
    answers_.stored(data.span().size());
    end_if_due(request, object);
}

void ServedObjects::finish(std::uint64_t request, std::uint64_t length) {
    post([this, request, length] {
        const auto found = written_.find(request);
        if (found == written_.end()) {
            answers_.fail(request, Error::failed("an object that wasn't begun is to be finished"));
            return;
        }
        found->second->finishing = true;
        found->second->finish_length = length;
        end_if_due(request, std::shared_ptr<Written>(found->second));
    });
}

// Finishes or drops it, when all its writes are done.
void ServedObjects::end_if_due(std::uint64_t request, const std::shared_ptr<Written>& object) {
    if (object->on_their_way > 0 || !(object->finishing || object->dropping)) {
        return;
    }
    written_.erase(request);
    if (object->dropping) {
        object->writer = nullptr;
        answers_.answer(request, {});
    } else if (!object->failed) {
        ring_->spawn(finish_one(request, object));
    }
}

Task<void> ServedObjects::finish_one(std::uint64_t request, std::shared_ptr<Written> object) {
    std::exception_ptr failure;
    try {
        if (object->finish_length != object->length) {
            throw Error::failed("of an object of " + std::to_string(object->finish_length) + " bytes " + std::to_string(object->length) +
                                " have come");
        }
        co_await object->writer->finish(*ring_);
    } catch (...) {
        failure = std::current_exception();
    }
    if (failure) {
        fail(request, *object, error_of(failure));
    } else {
        answers_.answer(request, {});
    }
}

void ServedObjects::drop(std::uint64_t request) {
    post([this, request] {
        const auto found = written_.find(request);
        if (found == written_.end()) {
            answers_.answer(request, {});
            return;
        }
        found->second->dropping = true;
        end_if_due(request, std::shared_ptr<Written>(found->second));
    });
}

void ServedObjects::open(std::uint64_t request, std::string name, std::uint64_t tail) {
    post([this, request, tail, name = std::move(name)] {
        try {
            if (opened_.size() >= kObjects) {
                throw Error::failed("more than " + std::to_string(kObjects) + " objects are open at once");
            }
            check_object_name(name);
            std::shared_ptr<ObjectReader> reader = target_->open(name);
            if (reader == nullptr) {
                answers_.answer(request, MessageWriter().number(0).take());
                return;
            }
            Bytes end(static_cast<std::size_t>(std::min({reader->size(), tail, std::uint64_t{kMaxPayload / 2}})));
            try {
                reader->read(end, reader->size() - end.size());
            } catch (const Error&) {
                end.clear();  // it is told when it is asked for
            }
            answers_.answer(request, MessageWriter().number(1).number(reader->size()).rest(end).take());
            opened_[request] = std::move(reader);
        } catch (...) {
            answers_.fail(request, error_of(std::current_exception()));
        }
    });
}

void ServedObjects::read(std::uint64_t request, std::uint64_t opened, std::uint64_t offset, std::uint64_t length) {
    post([this, request, opened, offset, length] {
        const auto found = opened_.find(opened);
        if (found == opened_.end() || reads_ >= kReads) {
            answers_.fail(request,
                          Error::failed(found == opened_.end() ? "what isn't open is to be read" : "too much is to be read at once"));
            return;
        }
        ++reads_;
        ring_->spawn(read_range(request, found->second, offset, length));
    });
}

Task<void> ServedObjects::read_range(std::uint64_t request, std::shared_ptr<ObjectReader> reader, std::uint64_t offset,
                                     std::uint64_t length) {
    ReadState state(*ring_);
    std::uint64_t begun = 0;
    while (begun < length && !state.error) {
        auto hold = co_await read_buffers_->acquire();
        const auto piece = static_cast<std::size_t>(std::min<std::uint64_t>(length - begun, kPiece));
        ++state.pieces;
        ring_->spawn(read_piece(request, *reader, begun, offset + begun, piece, std::move(hold), state));
        begun += piece;
    }
    if (--state.pieces > 0) {
        co_await state.all_done.wait();
    }
    --reads_;
    if (state.error) {
        answers_.fail(request, *state.error);
    } else {
        answers_.answer(request, {});
    }
}

Task<void> ServedObjects::read_piece(std::uint64_t request, ObjectReader& reader, std::uint64_t from, std::uint64_t offset,
                                     std::size_t length, AsyncSemaphore::Hold hold, ReadState& state) {
    auto buffer = std::make_shared<PayloadBuffers::Buffer>(buffers_.get(length));
    std::exception_ptr failure;
    try {
        co_await reader.read(*ring_, buffer->span(), offset);
    } catch (...) {
        failure = std::current_exception();
    }
    if (failure) {
        if (!state.error) {
            state.error = error_of(failure);
        }
    } else {
        // The buffer counts until its bytes are on their way; that is told on another thread.
        const std::uint64_t number = ++last_sent_;
        sent_.emplace(number, std::move(hold));
        answers_.data(request, from, buffer->span(), [this, buffer, number] { post([this, number] { sent_.erase(number); }); });
    }
    if (--state.pieces == 0) {
        state.all_done.set();
    }
}

void ServedObjects::close(std::uint64_t opened) {
    post([this, opened] { opened_.erase(opened); });
}

}  // namespace nodesnap::remote

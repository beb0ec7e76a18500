// What only a target on another host has: connections that end, servers and clients that are hostile, keys that may only read.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <future>
#include <random>
#include <thread>

#include "io/remote/channel.h"
#include "io/remote/greeting.h"
#include "io/remote/message.h"
#include "io/target/directory.h"
#include "platform/error.h"
#include "platform/random.h"
#include "tests/io/target_fixture.h"
#include "tests/support/loop_mount.h"
#include "tests/support/served_target.h"
#include "tests/support/strict_target.h"

namespace nodesnap::test {
namespace {

namespace fs = std::filesystem;
using remote::FrameHeader;
using remote::FrameKind;
using remote::HeaderBytes;
using remote::MessageWriter;

// Stands between a client and a server, and cuts both directions once `bytes` have gone through one of them.
class CuttingTransport : public PairTransport {
public:
    CuttingTransport(std::unique_ptr<remote::Transport> behind, bool of_answers, std::uint64_t bytes) : behind_(std::move(behind)) {
        relay_ =
            std::thread([this, client = take_far_end().release(), of_answers, bytes] { relay(FileDescriptor(client), of_answers, bytes); });
    }
    ~CuttingTransport() override {
        close();
        relay_.join();
    }

private:
    void relay(FileDescriptor client, bool of_answers, std::uint64_t left) {
        FileDescriptor from_server = behind_->take_in();
        FileDescriptor to_server = behind_->take_out();
        std::array<char, 4096> buffer;
        for (;;) {
            std::array<pollfd, 2> waits{{{client.get(), POLLIN, 0}, {from_server.get(), POLLIN, 0}}};
            ::poll(waits.data(), waits.size(), -1);
            for (const bool answer : {false, true}) {
                if (waits[answer ? 1 : 0].revents == 0) {
                    continue;
                }
                const bool counted = answer == of_answers;
                const std::size_t most = counted ? std::min<std::uint64_t>(left, buffer.size()) : buffer.size();
                const ssize_t count = most == 0 ? 0 : ::read(answer ? from_server.get() : client.get(), buffer.data(), most);
                if (count <= 0) {
                    return;
                }
                left -= counted ? static_cast<std::uint64_t>(count) : 0;
                for (ssize_t done = 0; done < count;) {
                    const ssize_t written = ::send(answer ? client.get() : to_server.get(), buffer.data() + done,
                                                   static_cast<std::size_t>(count - done), MSG_NOSIGNAL);
                    if (written <= 0) {
                        return;
                    }
                    done += written;
                }
            }
        }
    }

    std::unique_ptr<remote::Transport> behind_;
    std::thread relay_;
};

remote::ServeOptions serving(std::shared_ptr<Target> target) {
    remote::ServeOptions options;
    options.open = [target = std::move(target)](bool) { return target; };
    return options;
}

// Of each kind of request one; what is large goes in several frames.
void use(Target& target, AlignedBuffer& data) {
    Ring ring({.entries = 8});
    target.create("small", bytes_of("content"));
    put_object(target, ring, "packs/00/large", "staging", data.span(), 1 << 20);
    const auto reader = target.open("packs/00/large");
    AlignedBuffer back(data.span().size(), 9);
    ring.wait(reader->read(ring, back.span(), 0));
    EXPECT_TRUE(back == data);
    target.list("", [](const ObjectEntry&) {});
    target.remove("small");
}

TEST(RemoteTarget, ConnectionCutAnywhereIsAnErrorAndLeavesNothingHalf) {
    AlignedBuffer data((3 << 20) + 5000, 3);
    const std::uint64_t seed = random_u64();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    unsigned uncut = 0;
    for (const bool of_answers : {false, true}) {
        for (unsigned i = 0; i < 40; ++i) {
            // The beginning is dense with small frames.
            const std::uint64_t at = i < 25 ? random() % 1200 : random() % (4 << 20);
            const ScratchDirectory scratch("nodesnap-cut");
            const auto directory = open_directory_target(scratch / "target", true);
            remote::RemoteOptions options;
            options.place = "ssh://far/target";
            options.connections = 1;
            options.dial = [&](bool) -> std::unique_ptr<remote::Transport> {
                return std::make_unique<CuttingTransport>(serve_in_thread(serving(directory)), of_answers, at);
            };
            try {
                const auto target = remote::open_remote_target(options, false);
                use(*target, data);
                ++uncut;
            } catch (const Error& error) {
                EXPECT_EQ(error.status(), ExitStatus::kFailed);
                EXPECT_NE(std::string(error.what()).find("far"), std::string::npos) << error.what();
            }
            // The server has ended with its transport.
            if (fs::exists(scratch / "target/journal")) {
                EXPECT_TRUE(fs::is_empty(scratch / "target/journal")) << at;
            }
            if (const auto reader = directory->open("packs/00/large")) {
                EXPECT_EQ(reader->size(), data.span().size());
            }
        }
    }
    EXPECT_LT(uncut, 40U);
}

TEST(RemoteTarget, ErrorsComeAsWhatTheyAre) {
    const auto strict = StrictTarget::make();
    const auto target = open_served_target(strict);
    Ring ring({.entries = 8});
    AlignedBuffer data(8192, 1);
    const auto errno_of = [&](auto call) {
        try {
            call();
            return 0;
        } catch (const Error& error) {
            EXPECT_TRUE(std::string(error.what()).starts_with("far: ")) << error.what();
            return error.error_number();
        }
    };
    strict->fail(StrictTarget::Op::kCreate, 1, ENOSPC);
    EXPECT_EQ(errno_of([&] { target->create("a", bytes_of("x")); }), ENOSPC);
    strict->fail(StrictTarget::Op::kWrite, 1, EDQUOT);
    EXPECT_EQ(errno_of([&] { put_object(*target, ring, "b", "s", data.span(), 4096); }), EDQUOT);
    strict->fail(StrictTarget::Op::kFinish, 1, EIO);
    EXPECT_EQ(errno_of([&] { put_object(*target, ring, "c", "s", data.span(), 4096); }), EIO);
    put_object(*target, ring, "d", "s", data.span(), 4096);
    const auto reader = target->open("d");
    EXPECT_EQ(reader->size(), data.span().size());
    strict->fail(StrictTarget::Op::kList, 1, EACCES);
    EXPECT_EQ(errno_of([&] { target->list("", [](const ObjectEntry&) {}); }), EACCES);
    EXPECT_EQ(strict->unfinished(), 0U);
}

TEST(RemoteTarget, LargeSmallObjectsGoWhole) {
    const auto target = open_served_target(StrictTarget::make());
    Bytes content((5 << 20) + 77);
    for (std::size_t i = 0; i < content.size(); ++i) {
        content[i] = static_cast<std::byte>(i * 7 + i / 251);
    }
    EXPECT_TRUE(target->create("large", content));
    const auto loaded = target->load("large", 64 << 20);
    ASSERT_TRUE(loaded);
    EXPECT_EQ(loaded->content, content);
    EXPECT_EQ(status_of([&] { target->load("large", 1 << 20); }), ExitStatus::kDamaged);
    content[5] = std::byte{1};
    EXPECT_TRUE(target->swap("large", loaded->version, content));
    EXPECT_EQ(target->load("large", 64 << 20)->content, content);
}

TEST(RemoteTarget, ListOfManyIsWholeAndMayBeLeftEarly) {
    const auto strict = StrictTarget::make();
    const std::string padding(150, 'x');
    constexpr unsigned kMany = 30000;
    for (unsigned i = 0; i < kMany; ++i) {
        strict->create("many/" + padding + std::to_string(100000 + i), {});
    }
    const auto target = open_served_target(strict);
    unsigned count = 0;
    std::string last;
    target->list("many/", [&](const ObjectEntry& entry) {
        EXPECT_LT(last, entry.name);
        last = entry.name;
        ++count;
    });
    EXPECT_EQ(count, kMany);
    EXPECT_EQ(status_of([&] { target->list("", [](const ObjectEntry&) { throw Error::refused("enough"); }); }), ExitStatus::kRefused);
    // Afterwards it is as usable as before, also from within a list.
    unsigned loaded = 0;
    target->list("many/", [&](const ObjectEntry& entry) {
        if (loaded < 3) {
            EXPECT_TRUE(target->load(entry.name, 10));
            ++loaded;
        }
    });
    EXPECT_EQ(loaded, 3U);
}

// What another connection stores next may rest on it.
TEST(RemoteTarget, WhatWasRemovedStaysSoOverAPowerCut) {
    const auto strict = StrictTarget::make();
    const auto target = open_served_target(strict);
    ASSERT_TRUE(target->create("backups/a", bytes_of("x")));
    ASSERT_TRUE(target->remove("backups/a"));
    strict->power_cut();
    EXPECT_FALSE(strict->contains("backups/a"));
}

TEST(RemoteTarget, ReadOnlyKeyChangesNothing) {
    const auto strict = StrictTarget::make();
    strict->create("there", bytes_of("x"));
    ServedTargetOptions options;
    options.read_only = true;
    const auto target = open_served_target(strict, options);
    Ring ring({.entries = 8});
    AlignedBuffer data(4096, 1);
    EXPECT_EQ(target->write_error(), EROFS);
    const auto version = target->load("there", 10)->version;
    EXPECT_EQ(status_of([&] { target->create("a", {}); }), ExitStatus::kRefused);
    EXPECT_EQ(status_of([&] { target->swap("there", version, {}); }), ExitStatus::kRefused);
    EXPECT_EQ(status_of([&] { target->remove("there"); }), ExitStatus::kRefused);
    EXPECT_EQ(status_of([&] { target->persist_removals("x/"); }), ExitStatus::kRefused);
    EXPECT_EQ(status_of([&] { put_object(*target, ring, "b", "s", data.span(), 4096); }), ExitStatus::kRefused);
    EXPECT_EQ(text_of(target->load("there", 10)->content), "x");
    EXPECT_EQ(strict->unfinished(), 0U);
}

TEST(RemoteTarget, AbandonedRingWaitsForWhatIsOnItsWay) {
    const auto strict = StrictTarget::make();
    const auto target = open_served_target(strict);
    Ring ring({.entries = 8});
    {
        // More than there is credit for, so that some wait.
        AlignedBuffer data(40 << 20, 1);
        const auto writer = target->begin("packs/00/x", "s");
        for (std::size_t at = 0; at < data.span().size(); at += 1 << 20) {
            ring.spawn(writer->write(ring, data.part(at, 1 << 20), at));
        }
        ring.abandon();
    }
    EXPECT_EQ(target->open("packs/00/x"), nullptr);
    AlignedBuffer data(40 << 20, 2);
    put_object(*target, ring, "packs/00/x", "s", data.span(), 3 << 20);
    {
        const auto reader = target->open("packs/00/x");
        AlignedBuffer back(40 << 20, 3);
        ring.spawn(reader->read(ring, back.span(), 0));
        ring.abandon();
    }
    EXPECT_EQ(strict->unfinished(), 0U);
}

// A client that speaks for itself.
class RawClient {
public:
    explicit RawClient(const remote::ServeOptions& options)
        : transport_(serve_in_thread(options)), in_(transport_->take_in()), out_(transport_->take_out()) {
        remote::send_greeting(out_.get());
        remote::receive_greeting(in_.get());
    }
    void send(FrameKind kind, std::uint64_t request, const Bytes& payload, std::uint64_t number = 0) {
        const HeaderBytes header = remote::encode_header({0, kind, 0, request, number}, payload, sent_++);
        raw(header);
        raw(payload);
    }
    void raw(std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            const ssize_t count = ::send(out_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (count <= 0) {
                return;  // the server has had enough
            }
            bytes = bytes.subspan(static_cast<std::size_t>(count));
        }
    }
    void hello() { send(FrameKind::kHello, 1, MessageWriter().number(1).number(0).text("client").take()); }
    // What the server says is wrong; empty if it closes the connection without a word.
    std::string error() {
        for (;;) {
            HeaderBytes bytes;
            if (!read(bytes)) {
                return "";
            }
            const FrameHeader header = remote::decode_header(bytes);
            Bytes payload(header.length);
            if (!read(payload)) {
                return "";
            }
            if (header.kind == FrameKind::kError) {
                return remote::decode_error(payload, "server").message();
            }
        }
    }

private:
    bool read(std::span<std::byte> into) {
        while (!into.empty()) {
            const ssize_t count = ::read(in_.get(), into.data(), into.size());
            if (count <= 0) {
                return false;
            }
            into = into.subspan(static_cast<std::size_t>(count));
        }
        return true;
    }

    std::unique_ptr<remote::Transport> transport_;
    FileDescriptor in_, out_;
    std::uint64_t sent_ = 0;
};

TEST(RemoteServer, TellsAHostileClientWhatIsWrongAndEnds) {
    const ScratchDirectory scratch("nodesnap-attacked");
    const auto options = serving(open_directory_target(scratch / "target", true));
    struct Attack {
        const char* told;
        std::function<void(RawClient&)> act;
    };
    const Bytes megabyte(1 << 20);
    const std::vector<Attack> attacks{
        {"before it has said who", [](RawClient& client) { client.send(FrameKind::kState, 1, {}); }},
        {"greets twice", [](RawClient& client) { client.hello(), client.hello(); }},
        {"ends too early", [](RawClient& client) { client.send(FrameKind::kHello, 1, bytes_of("x")); }},
        {"checksum doesn't fit",
         [](RawClient& client) {
             client.hello();
             client.raw(Bytes(remote::kFrameHeaderBytes));
         }},
        {"was announced", [](RawClient& client) { client.raw(Bytes(remote::kFrameHeaderBytes, std::byte{0xff})); }},
        {"credit",
         [&](RawClient& client) {
             client.hello();
             // Never taken: the object isn't there, and its bytes are given back only as fast as they are thrown away.
             for (unsigned i = 0; i < 200; ++i) {
                 client.send(FrameKind::kWrite, 5, megabyte, i << 20);
             }
         }},
        {"too large",
         [&](RawClient& client) {
             client.hello();
             for (unsigned i = 0; i < 70; ++i) {
                 client.send(FrameKind::kContent, 5, megabyte);
             }
         }},
        {"mixed",
         [&](RawClient& client) {
             client.hello();
             client.send(FrameKind::kContent, 5, megabyte);
             client.send(FrameKind::kContent, 6, megabyte);
         }},
        {"unknown kind",
         [](RawClient& client) {
             client.hello();
             client.send(static_cast<FrameKind>(999), 5, {});
         }},
        {"isn't open",
         [](RawClient& client) {
             client.hello();
             client.send(FrameKind::kRead, 5, MessageWriter().number(0).number(100).take(), 77);
         }},
        {"wasn't begun", [](RawClient& client) { client.hello(), client.send(FrameKind::kFinish, 5, {}, 77); }},
        {"no commands", [](RawClient& client) { client.hello(), client.send(FrameKind::kRun, 5, MessageWriter().text("verify").take()); }},
        {"can't be the name",
         [](RawClient& client) {
             client.hello();
             client.send(FrameKind::kCreate, 5, MessageWriter().text("../../etc/passwd").take());
         }},
    };
    for (const Attack& attack : attacks) {
        RawClient client(options);
        attack.act(client);
        if (std::string(attack.told) == "credit") {
            continue;  // whether it is exceeded depends on who is faster; that the server ends is seen by the client's end
        }
        EXPECT_NE(client.error().find(attack.told), std::string::npos) << attack.told;
    }
}

// Counts as a peer that is gone: it is connected, and says nothing.
TEST(FrameChannel, EndsWhenNothingIsHeardForTooLong) {
    class Listener : public remote::FrameChannel::Receiver {
    public:
        std::span<std::byte> place_for(const FrameHeader&) override { return {}; }
        void received(const FrameHeader&, std::span<std::byte>) override {}
        void ended(const std::string& why) noexcept override { told.set_value(why); }
        std::promise<std::string> told;
    };
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    const FileDescriptor silent(ends[1]);
    Listener listener;
    FileDescriptor out(::dup(ends[0]));
    remote::FrameChannel channel(FileDescriptor(ends[0]), std::move(out), listener, std::chrono::seconds(1));
    channel.start();
    EXPECT_NE(listener.told.get_future().get().find("nothing was heard of it for 1 s"), std::string::npos);
}

TEST(RemoteServer, RandomBytesEndIt) {
    const std::uint64_t seed = random_u64();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const auto options = serving(StrictTarget::make());
    for (unsigned round = 0; round < 50; ++round) {
        RawClient client(options);
        client.hello();
        for (unsigned i = 0; i < 20; ++i) {
            Bytes payload(random() % 300);
            for (std::byte& byte : payload) {
                byte = static_cast<std::byte>(random());
            }
            if (random() % 8 == 0) {
                client.raw(payload);
            } else {
                client.send(static_cast<FrameKind>(1 + random() % 22), random() % 5, payload, random() % 3);
            }
        }
    }
}

}  // namespace
}  // namespace nodesnap::test

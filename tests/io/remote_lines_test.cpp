// How many connections a target on another host has, and when they are made.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "io/remote/frame.h"
#include "platform/error.h"
#include "tests/io/target_fixture.h"
#include "tests/support/served_target.h"
#include "tests/support/strict_target.h"

namespace nodesnap::test {
namespace {

class Dialed {
public:
    explicit Dialed(unsigned connections, unsigned possible = 100) {
        remote::RemoteOptions options;
        options.place = "ssh://far/target";
        options.connections = connections;
        options.dial = [this, possible](bool) {
            if (++dials_ > possible) {
                throw Error::failed("no more");
            }
            remote::ServeOptions serve;
            serve.open = [this](bool) { return stored_; };
            return serve_in_thread(serve);
        };
        target_ = remote::open_remote_target(options, false);
    }
    Target& operator*() const { return *target_; }
    StrictTarget& stored() const { return *stored_; }
    unsigned dials() const { return dials_; }
    void end() { target_.reset(); }

private:
    std::shared_ptr<StrictTarget> stored_ = StrictTarget::make();
    std::atomic<unsigned> dials_{0};
    std::shared_ptr<Target> target_;
};

// Several objects, begun one after the other and written side by side.
void write_beside_each_other(Target& target, unsigned count, const std::string& folder = "packs") {
    Ring ring({.entries = 8});
    AlignedBuffer data(1 << 20, 1);
    std::vector<std::unique_ptr<ObjectWriter>> writers;
    for (unsigned i = 0; i < count; ++i) {
        std::string name = folder + "/0";
        name += std::to_string(i) + "/large";
        writers.push_back(target.begin(name, "staging" + std::to_string(i)));
        ring.spawn(writers.back()->write(ring, data.span(), 0));
    }
    ring.run();
    for (const auto& writer : writers) {
        ring.wait(writer->finish(ring));
    }
}

TEST(RemoteLines, ObjectsOneAfterTheOtherShareAConnection) {
    Dialed dialed(4);
    for (unsigned i = 0; i < 3; ++i) {
        Ring ring({.entries = 8});
        AlignedBuffer data(1 << 20, i);
        put_object(*dialed, ring, "packs/00/large" + std::to_string(i), "staging", data.span(), 1 << 20);
    }
    dialed.end();
    EXPECT_EQ(dialed.dials(), 1U);
}

TEST(RemoteLines, TwoAtOnceBringAllConnectionsOnce) {
    Dialed dialed(4);
    write_beside_each_other(*dialed, 2);
    EXPECT_GE(dialed.dials(), 2U);
    write_beside_each_other(*dialed, 7, "nodes");
    dialed.end();
    EXPECT_EQ(dialed.dials(), 4U);
}

TEST(RemoteLines, WhatCannotBeHadIsNotAskedForAgain) {
    Dialed dialed(4, 2);
    write_beside_each_other(*dialed, 8);
    write_beside_each_other(*dialed, 8, "nodes");
    dialed.end();
    EXPECT_EQ(dialed.dials(), 4U);
    Dialed alone(4, 1);
    write_beside_each_other(*alone, 3);
    alone.end();
    EXPECT_EQ(alone.dials(), 4U);
}

// However slow it is, what is on the way to it is what there is credit for.
TEST(RemoteLines, TargetThatStandsStillTakesNoMoreThanItsCredit) {
    Dialed dialed(1);
    Ring ring({.entries = 64});
    AlignedBuffer data(1 << 20, 1);
    constexpr unsigned kPieces = 3 * remote::kWriteCredit / (1 << 20);
    std::atomic<unsigned> sent{0};
    const auto write = [&](ObjectWriter& writer, unsigned piece) -> Task<void> {
        co_await writer.write(ring, data.span(), std::uint64_t{piece} << 20);
        ++sent;
    };
    const auto writer = (*dialed).begin("packs/00/large", "staging");
    dialed.stored().hold(StrictTarget::Op::kWrite);
    for (unsigned i = 0; i < kPieces; ++i) {
        ring.spawn(write(*writer, i));
    }
    std::thread rest([&] {
        while (sent < remote::kWriteCredit >> 20) {
            std::this_thread::yield();
        }
        // Whatever had been sent besides would have been before that.
        EXPECT_FALSE((*dialed).load("locks/exclusive", 100));
        EXPECT_EQ(sent, remote::kWriteCredit >> 20);
        dialed.stored().let_go();
    });
    ring.run();
    rest.join();
    ring.wait(writer->finish(ring));
    EXPECT_EQ((*dialed).open("packs/00/large")->size(), std::uint64_t{kPieces} << 20);
}

TEST(RemoteLines, ReadingALittleIsDoneOnOneConnection) {
    Dialed dialed(4);
    AlignedBuffer data(12 << 20, 5);
    AlignedBuffer back(12 << 20);
    Ring ring({.entries = 8});
    put_object(*dialed, ring, "packs/00/large", "staging", data.span(), 1 << 20);
    const auto first = (*dialed).open("packs/00/large");
    const auto second = (*dialed).open("packs/00/large");
    second->read(back.part(0, 1 << 20), 0);
    const auto third = (*dialed).open("packs/00/large");
    EXPECT_EQ(dialed.dials(), 1U);
    first->read(back.span(), 0);
    EXPECT_TRUE(back == data);
    const auto fourth = (*dialed).open("packs/00/large");
    EXPECT_GE(dialed.dials(), 2U);
    fourth->read(back.span(), 0);
    EXPECT_TRUE(back == data);
}

}  // namespace
}  // namespace nodesnap::test

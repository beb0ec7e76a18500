// What goes over a connection: frames, messages, greetings, and the place that names one.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>

#include "io/little_endian.h"
#include "io/remote/frame.h"
#include "io/remote/greeting.h"
#include "io/remote/message.h"
#include "io/remote/ssh.h"
#include "io/remote/ssh_ciphers.h"
#include "platform/file_descriptor.h"
#include "tests/io/target_fixture.h"

namespace nodesnap::remote {
namespace {

using test::bytes_of;
using test::status_of;

TEST(Frame, HeaderComesBackAsItWas) {
    const Bytes payload = bytes_of("payload");
    const FrameHeader header{0, FrameKind::kWrite, 0, 0x1122334455667788, 0x99aabbccddeeff00};
    const HeaderBytes bytes = encode_header(header, payload, 7);
    const FrameHeader decoded = decode_header(bytes);
    EXPECT_EQ(decoded.length, payload.size());
    EXPECT_EQ(decoded.kind, FrameKind::kWrite);
    EXPECT_EQ(decoded.request, header.request);
    EXPECT_EQ(decoded.number, header.number);
    EXPECT_TRUE(fits(bytes, payload, 7));
}

TEST(Frame, AnyOtherByteOrPlaceDoesntFit) {
    const Bytes payload = bytes_of("some payload");
    const HeaderBytes bytes = encode_header({0, FrameKind::kCreate, 0, 3, 4}, payload, 2);
    EXPECT_FALSE(fits(bytes, payload, 1));
    EXPECT_FALSE(fits(bytes, payload, 3));
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        HeaderBytes other = bytes;
        other[i] ^= std::byte{0x10};
        EXPECT_FALSE(fits(other, payload, 2)) << i;
    }
    for (std::size_t i = 0; i < payload.size(); ++i) {
        Bytes other = payload;
        other[i] ^= std::byte{1};
        EXPECT_FALSE(fits(bytes, other, 2)) << i;
    }
}

TEST(Frame, MoreThanAFrameMayHaveIsRefused) {
    HeaderBytes bytes = encode_header({0, FrameKind::kWrite, 0, 1, 0}, {}, 0);
    store_little_endian(bytes, 0, static_cast<std::uint32_t>(kMaxPayload));
    EXPECT_NO_THROW(decode_header(bytes));
    store_little_endian(bytes, 0, static_cast<std::uint32_t>(kMaxPayload + 1));
    EXPECT_EQ(status_of([&] { decode_header(bytes); }), ExitStatus::kFailed);
}

TEST(Message, WhatIsTooShortOrLeftOverIsAnError) {
    const Bytes whole = MessageWriter().number(5).text("name").take();
    for (std::size_t length = 0; length <= whole.size() + 1; ++length) {
        Bytes bytes = whole;
        bytes.resize(length);
        const auto read = [&] {
            MessageReader reader(bytes);
            EXPECT_EQ(reader.number(), 5U);
            EXPECT_EQ(reader.text(), "name");
            reader.end();
        };
        EXPECT_EQ(status_of(read), length == whole.size() ? ExitStatus::kDone : ExitStatus::kFailed) << length;
    }
}

TEST(Message, ErrorKeepsStatusAndErrnoAndGetsTheHost) {
    const Error error = decode_error(encode_error(Error::system("write to", "/x", ENOSPC)), "host2");
    EXPECT_EQ(error.error_number(), ENOSPC);
    EXPECT_EQ(error.status(), ExitStatus::kFailed);
    EXPECT_TRUE(error.message().starts_with("host2: cannot write to /x")) << error.message();
    EXPECT_FALSE(error.hint().empty());
    EXPECT_EQ(decode_error(encode_error(Error::locked("held")), "h").status(), ExitStatus::kLocked);
    // Whatever a host says, it is an error.
    EXPECT_EQ(decode_error(MessageWriter().number(0).number(~0ULL).text("m").text("").take(), "h").status(), ExitStatus::kFailed);
}

class Greeting : public testing::Test {
protected:
    void SetUp() override {
        std::array<int, 2> ends{};
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
        here_.reset(ends[0]);
        there_.reset(ends[1]);
    }
    std::string error_of(const std::string& said) {
        EXPECT_EQ(::write(there_.get(), said.data(), said.size()), static_cast<ssize_t>(said.size()));
        there_.reset();
        try {
            receive_greeting(here_.get());
            return "";
        } catch (const Error& error) {
            return error.message() + " " + error.hint();
        }
    }
    FileDescriptor here_, there_;
};

TEST_F(Greeting, TakesTheHighestVersionOfBoth) {
    send_greeting(there_.get());
    EXPECT_EQ(receive_greeting(here_.get()), kHighestProtocol);
    EXPECT_EQ(error_of("nodesnap-remote 1-9\n"), "");
}
TEST_F(Greeting, OfANewerProtocolNamesBoth) {
    EXPECT_NE(error_of("nodesnap-remote 8-9\n").find("8-9"), std::string::npos);
}
TEST_F(Greeting, WhatAShellPrintsIsShown) {
    EXPECT_NE(error_of("Welcome to host2\n").find("Welcome to host2"), std::string::npos);
}
TEST_F(Greeting, EndingWithoutAWordIsTold) {
    EXPECT_NE(error_of("").find("without a word"), std::string::npos);
}
TEST_F(Greeting, NothingAfterTheLineIsTaken) {
    const std::string said = "nodesnap-remote 1-1\nX";
    ASSERT_EQ(::write(there_.get(), said.data(), said.size()), static_cast<ssize_t>(said.size()));
    receive_greeting(here_.get());
    char next = 0;
    EXPECT_EQ(::read(here_.get(), &next, 1), 1);
    EXPECT_EQ(next, 'X');
}

TEST(SshPlace, IsTakenApart) {
    const auto plain = parse_ssh_place("ssh://host2/backup/node1");
    ASSERT_TRUE(plain);
    EXPECT_EQ(plain->destination, "host2");
    EXPECT_EQ(plain->port, "");
    EXPECT_EQ(plain->path, "/backup/node1");
    const auto full = parse_ssh_place("ssh://me@host2:2222/a b'c");
    EXPECT_EQ(full->destination, "me@host2");
    EXPECT_EQ(full->port, "2222");
    EXPECT_EQ(full->path, "/a b'c");
    const auto address = parse_ssh_place("ssh://me@[::1]:22/x");
    EXPECT_EQ(address->destination, "me@::1");
    EXPECT_EQ(address->port, "22");
    EXPECT_EQ(parse_ssh_place("ssh://[fe80::1]/x")->destination, "fe80::1");
    EXPECT_FALSE(parse_ssh_place("/backup/node1"));
    EXPECT_FALSE(parse_ssh_place("ssh:/backup"));
}

TEST(SshPlace, ThatCouldBeAnOptionOrIsHalfIsRefused) {
    for (const char* place :
         {"ssh://-oProxyCommand=x/p", "ssh://me@-h/p", "ssh://@h/p", "ssh:///p", "ssh://h", "ssh://h/", "ssh://h:/p", "ssh://h:0/p",
          "ssh://h:99999/p", "ssh://h:2x/p", "ssh://h;x/p", "ssh://h x/p", "ssh://me@/p", "ssh://me:secret@h/p", "ssh://h/a\nb"}) {
        EXPECT_EQ(status_of([&] { parse_ssh_place(place); }), ExitStatus::kUsage) << place;
    }
}

TEST(SshCiphers, FastOneComesFirstWhereNothingWasChosen) {
    const std::string built_in = "user me\nciphers chacha20-poly1305@openssh.com,aes128-ctr,aes128-gcm@openssh.com\nmacs x\n";
    EXPECT_EQ(preferred_ciphers(built_in, built_in), "aes128-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr");
    EXPECT_EQ(preferred_ciphers("ciphers aes256-ctr\n", built_in), "");
    EXPECT_EQ(preferred_ciphers("ciphers chacha20-poly1305@openssh.com,aes128-gcm@openssh.com,aes128-ctr\n", built_in), "");
    EXPECT_EQ(preferred_ciphers("", ""), "");
    EXPECT_EQ(preferred_ciphers("", built_in), "");
    EXPECT_EQ(preferred_ciphers("nociphers x\n", "nociphers x\n"), "");
    EXPECT_EQ(preferred_ciphers("ciphers aes128-ctr\n", "ciphers aes128-ctr\n"), "");  // one that doesn't know it
}

TEST(ServedPath, IsWhatTheClientQuoted) {
    for (const std::string path : {"/backup/node1", "/with 'quotes'", "/'", "/a'' b\\c", "/$(x) `y`"}) {
        EXPECT_EQ(served_path("nodesnap serve " + remote_word(path)), path);
        EXPECT_EQ(served_path("/opt/bin/nodesnap serve " + remote_word(path)), path);
    }
}

TEST(ServedPath, NothingElseIsTaken) {
    for (const char* command :
         {"", "sh", "nodesnap serve /x", "nodesnap serve '/x' ; rm -rf '/'", "nodesnap serve '/x' '/y'", "nodesnap serve '",
          "nodesnap serve '/x", "nodesnap serve '/x'y'", "nodesnap serve '/x'\\''", "scp -t '/x'"}) {
        EXPECT_EQ(status_of([&] { served_path(command); }), ExitStatus::kRefused) << command;
    }
}

}  // namespace
}  // namespace nodesnap::remote

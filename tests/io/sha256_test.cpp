#include "io/sha256.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace nodesnap {
namespace {

std::span<const std::byte> bytes(std::string_view text) {
    return std::as_bytes(std::span(text));
}

// What the standard's own examples say.
TEST(Sha256, TellsWhatTheStandardSays) {
    EXPECT_EQ(Sha256::of({}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(Sha256::of(bytes("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(Sha256::of(bytes("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    EXPECT_EQ(Sha256::of(bytes(std::string(1'000'000, 'a'))), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, IsTheSameHoweverTheBytesCome) {
    const std::string text(1000, 'x');
    for (const std::size_t piece : {1, 7, 55, 56, 63, 64, 65, 128, 999}) {
        Sha256 sum;
        for (std::size_t at = 0; at < text.size(); at += piece) {
            sum.add(bytes(std::string_view(text).substr(at, piece)));
        }
        EXPECT_EQ(sum.hex(), Sha256::of(bytes(text))) << piece;
    }
}

}  // namespace
}  // namespace nodesnap

// What thin_delta prints, as it is understood, in pieces of any length; what isn't understood is refused.
#include "platform/thin_delta.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "platform/error.h"

namespace nodesnap::lvm {
namespace {

using Kind = BlockRange::Kind;

constexpr const char* kBegin =
    "<superblock uuid=\"\" time=\"2\" transaction=\"3\" data_block_size=\"128\" nr_data_blocks=\"16384\">\n  <diff left=\"2\" "
    "right=\"3\">\n";
constexpr const char* kEnd = "  </diff>\n</superblock>\n";

struct Parsed {
    std::vector<BlockRange> ranges;
    std::uint64_t block_bytes = 0;
};

Parsed parse(const std::string& text, std::size_t piece = std::string::npos) {
    Parsed parsed;
    ThinDeltaParser parser(2, 3, [&](const BlockRange& range) { parsed.ranges.push_back(range); });
    for (std::size_t at = 0; at < text.size(); at += std::min(piece, text.size())) {
        parser.add(std::string_view(text).substr(at, piece));
    }
    parser.finish();
    parsed.block_bytes = parser.block_bytes();
    return parsed;
}

bool is_refused(const std::string& text) {
    try {
        parse(text);
        return false;
    } catch (const Error& error) {
        EXPECT_NE(error.message().find("can't be understood"), std::string::npos);
        return true;
    }
}

std::string of(const std::string& ranges) {
    return kBegin + ranges + kEnd;
}

TEST(ThinDelta, IsUnderstoodInPiecesOfAnyLength) {
    const std::string text =
        of("    <same begin=\"0\" length=\"10\"/>\n    <different begin=\"10\" length=\"2\"/>\n"
           "    <left_only begin=\"20\" length=\"1\"/>\n    <right_only begin=\"21\" length=\"5\" />\n");
    const std::vector<BlockRange> expected = {
        {Kind::kSame, 0, 10}, {Kind::kDifferent, 10, 2}, {Kind::kLeftOnly, 20, 1}, {Kind::kRightOnly, 21, 5}};
    for (const std::size_t piece : {std::string::npos, std::size_t{1}, std::size_t{2}, std::size_t{7}, std::size_t{64}}) {
        const Parsed parsed = parse(text, piece);
        EXPECT_EQ(parsed.ranges, expected) << piece;
        EXPECT_EQ(parsed.block_bytes, 65536U);
    }
    EXPECT_TRUE(parse(of("")).ranges.empty());
}

TEST(ThinDelta, WhatIsCutShortIsRefused) {
    std::string text = of("<same begin=\"0\" length=\"10\"/>");
    while (text.ends_with('\n')) {
        text.pop_back();
    }
    ASSERT_FALSE(is_refused(text));
    for (std::size_t length = 0; length < text.size(); ++length) {
        EXPECT_TRUE(is_refused(text.substr(0, length))) << length;
    }
}

TEST(ThinDelta, WhatIsNotUnderstoodIsRefused) {
    for (const char* range : {
             "<same begin=\"0\"/>",                                                    // no length
             "<same begin=\"0\" length=\"0\"/>",                                       // nothing
             "<same begin=\"0\" length=\"-1\"/>",                                      //
             "<same begin=\"0x0\" length=\"1\"/>",                                     //
             "<same begin=\"0\" begin=\"1\" length=\"1\"/>",                           // twice
             "<same begin=0 length=1/>",                                               //
             "<same begin=\"0\" length=\"18446744073709551615\"/>",                    // more bytes than can be
             "<same begin=\"18446744073709551615\" length=\"1\"/>",                    //
             "<same begin=\"4\" length=\"2\"/><different begin=\"5\" length=\"1\"/>",  // overlaps
             "<different begin=\"4\" length=\"2\"/><same begin=\"0\" length=\"1\"/>",  // goes back
             "<alike begin=\"0\" length=\"1\"/>",                                      //
             "<same begin=\"0\" length=\"1\">",                                        // not whole
             "same",                                                                   //
             "<diff left=\"2\" right=\"3\">",                                          //
         }) {
        EXPECT_TRUE(is_refused(of(range))) << range;
    }
    EXPECT_TRUE(is_refused(of("") + "<superblock>"));
    EXPECT_TRUE(is_refused(of("") + "error"));
    EXPECT_TRUE(is_refused("<" + std::string(1 << 20, 'a')));
    for (const char* sectors : {"0", "1", "18446744073709551615"}) {
        EXPECT_TRUE(
            is_refused("<superblock data_block_size=\"" + std::string(sectors) + "\"><diff left=\"2\" right=\"3\"></diff></superblock>"));
    }
    EXPECT_TRUE(is_refused("<superblock data_block_size=\"128\"><diff left=\"3\" right=\"2\"></diff></superblock>"));
}

}  // namespace
}  // namespace nodesnap::lvm

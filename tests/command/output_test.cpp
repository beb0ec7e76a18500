// Escaping, JSON, and the progress line.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "snapshot/command/json_writer.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/progress_line.h"

namespace nodesnap::command {
namespace {

TEST(Printable, LeavesTextInAnyLanguageAlone) {
    for (const std::string text : {"data/000012.sst", "größe", "日本語", "🗄", ""}) {
        EXPECT_EQ(printable_name(text), text);
        EXPECT_TRUE(is_utf8(text));
    }
}

TEST(Printable, EscapesWhatATerminalObeys) {
    EXPECT_EQ(printable_name("a\x1b[31mb"), "a\\x1b[31mb");
    EXPECT_EQ(printable_name("a\nb\rc\td\x7f"), "a\\x0ab\\x0dc\\x09d\\x7f");
    EXPECT_EQ(printable_name("\xc2\x9b"), "\\xc2\\x9b");                         // CSI as one character
    EXPECT_EQ(printable_name("\xe2\x80\xaetxt.exe"), "\\xe2\\x80\\xaetxt.exe");  // right-to-left override
    EXPECT_EQ(printable_name(std::string("a\0b", 3)), "a\\x00b");
    EXPECT_EQ(printable_name("back\\slash"), "back\\\\slash");
    EXPECT_EQ(printable_text("back\\slash\n"), "back\\slash\\x0a");
}

TEST(Printable, EscapesInvalidUtf8) {
    for (const std::string bytes :
         {"\xff", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xf4\x90\x80\x80", "\x80"}) {
        EXPECT_FALSE(is_utf8(bytes));
        EXPECT_EQ(printable_name(bytes).size(), 4 * bytes.size());
    }
}

TEST(Printable, CountsColumnsNotBytes) {
    EXPECT_EQ(columns_of(""), 0U);
    EXPECT_EQ(columns_of("größe"), 5U);
    EXPECT_EQ(columns_of("日本語"), 6U);
    EXPECT_EQ(columns_of("e\xcc\x81"), 1U);  // a combining accent
    EXPECT_EQ(columns_of("\xff"), 1U);
}

TEST(Printable, ShortensBetweenCharacters) {
    EXPECT_EQ(shortened("short"), "short");
    EXPECT_EQ(shortened(std::string(1000, 'x')), std::string(60, 'x') + "...");
    const std::string cut = shortened("x" + [] {
        std::string text;
        for (int i = 0; i < 100; ++i) {
            text += "ß";
        }
        return text;
    }());
    EXPECT_TRUE(is_utf8(cut));
    EXPECT_EQ(cut.size(), 62U);
}

TEST(Printable, Base64) {
    EXPECT_EQ(base64(""), "");
    EXPECT_EQ(base64("f"), "Zg==");
    EXPECT_EQ(base64("fo"), "Zm8=");
    EXPECT_EQ(base64("foo"), "Zm9v");
    EXPECT_EQ(base64("\xff\xfe\xfd\xfc"), "//79/A==");
}

TEST(JsonWriter, WritesWhatAParserReads) {
    std::ostringstream out;
    JsonWriter writer(out);
    writer.begin_object();
    writer.member("text", "a \"quoted\"\n\x01");
    writer.member("largest", std::uint64_t{18446744073709551615U});
    writer.member("least", std::int64_t{-9223372036854775807});
    writer.member("yes", true);
    writer.member("half", 0.5);
    writer.null("nothing");
    writer.begin_array("empty");
    writer.end();
    writer.begin_array("list");
    writer.element("one");
    writer.begin_object();
    writer.member("deep", 1);
    writer.begin_array("deeper");
    writer.element("x");
    writer.element("y");
    writer.end();
    writer.end();
    writer.end();
    writer.end();
    const auto document = nlohmann::json::parse(out.str());
    EXPECT_EQ(document, nlohmann::json::parse(R"({"text": "a \"quoted\"\n\u0001", "largest": 18446744073709551615,
        "least": -9223372036854775807, "yes": true, "half": 0.5, "nothing": null, "empty": [],
        "list": ["one", {"deep": 1, "deeper": ["x", "y"]}]})"));
}

TEST(JsonWriter, UnwindsToTheRootObject) {
    std::ostringstream out;
    JsonWriter writer(out);
    writer.begin_object();
    writer.begin_array("files");
    writer.begin_object();
    writer.member("path", "a");
    writer.begin_array("more");
    writer.unwind();
    writer.member("error", "broken");
    writer.end();
    EXPECT_EQ(nlohmann::json::parse(out.str()), nlohmann::json::parse(R"({"files": [{"path": "a", "more": []}], "error": "broken"})"));
}

TEST(Progress, TellsPercentAndTimeLeftOnlyWhenTheTotalIsFinal) {
    Progress progress;
    progress.phase = "draining";
    progress.bytes_done = 1U << 30;
    progress.bytes_total = std::uint64_t{4} << 30;
    const double rate = 256.0 * (1 << 20);
    const std::string open = progress_text(progress, rate, std::chrono::seconds(4));
    EXPECT_EQ(open.find('%'), std::string::npos) << open;
    EXPECT_EQ(open.find("left"), std::string::npos) << open;
    progress.totals_final = true;
    const std::string known = progress_text(progress, rate, std::chrono::seconds(4));
    EXPECT_NE(known.find("25 %"), std::string::npos) << known;
    EXPECT_NE(known.find("256.0 MiB/s"), std::string::npos) << known;
    EXPECT_NE(known.find("left"), std::string::npos) << known;
}

TEST(Progress, FitsAnOrdinaryTerminal) {
    Progress progress;
    progress.phase = "a phase with a rather long name that somebody gave to it";
    progress.bytes_done = progress.bytes_total = ~std::uint64_t{0};
    progress.files_done = ~std::uint64_t{0};
    progress.totals_final = true;
    EXPECT_LE(progress_text(progress, 1e18, std::chrono::hours(100000)).size(), 79U);
    progress.bytes_done = 0;
    EXPECT_LE(progress_text(progress, 1e-9, std::chrono::hours(0)).size(), 79U);
}

TEST(Progress, ALineThatIsNotShownWritesNothing) {
    Progress progress;
    std::ostringstream out;
    { const ProgressLine line(progress, out, false); }
    EXPECT_EQ(out.str(), "");
    { const ProgressLine line(progress, out, true); }
    EXPECT_TRUE(out.str().ends_with("\r\033[K"));
}

}  // namespace
}  // namespace nodesnap::command

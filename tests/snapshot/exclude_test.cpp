#include "snapshot/exclude.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "platform/error.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

bool matches(const std::string& pattern, std::string_view path, bool is_directory = false) {
    return ExcludeRules({pattern}).matches(path, is_directory);
}

TEST(Exclude, NameWithoutSlashMatchesAtAnyDepth) {
    EXPECT_TRUE(matches("LOCK", "LOCK"));
    EXPECT_TRUE(matches("LOCK", "a/b/LOCK"));
    EXPECT_FALSE(matches("LOCK", "a/LOCK/b"));
    EXPECT_FALSE(matches("LOCK", "LOCK2"));
    EXPECT_FALSE(matches("LOCK", "xLOCK"));
    EXPECT_TRUE(matches("*.tmp", "a/x.tmp"));
    EXPECT_TRUE(matches("*.tmp", ".tmp"));
    EXPECT_FALSE(matches("*.tmp", "x.tmp2"));
}

TEST(Exclude, PatternWithSlashIsAnchored) {
    EXPECT_TRUE(matches("cache/tmp", "cache/tmp"));
    EXPECT_FALSE(matches("cache/tmp", "a/cache/tmp"));
    EXPECT_TRUE(matches("/cache", "cache"));
    EXPECT_FALSE(matches("/cache", "a/cache"));
    EXPECT_TRUE(matches("./cache", "cache"));
    EXPECT_FALSE(matches("./cache", "a/cache"));
    EXPECT_TRUE(matches("a/*", "a/b"));
    EXPECT_FALSE(matches("a/*", "a/b/c"));
}

TEST(Exclude, SlashAtTheEndLimitsToDirectories) {
    EXPECT_TRUE(matches("log/", "a/log", true));
    EXPECT_FALSE(matches("log/", "a/log", false));
    EXPECT_TRUE(matches("/log/", "log", true));
    EXPECT_FALSE(matches("/log/", "a/log", true));
}

TEST(Exclude, StarsDontCrossSlashesButDoubleStarsDo) {
    EXPECT_TRUE(matches("a/**", "a/b"));
    EXPECT_TRUE(matches("a/**", "a/b/c"));
    EXPECT_FALSE(matches("a/**", "a"));
    EXPECT_TRUE(matches("**/x", "x"));
    EXPECT_TRUE(matches("**/x", "a/b/x"));
    EXPECT_FALSE(matches("**/x", "a/bx"));
    EXPECT_TRUE(matches("a/**/x", "a/x"));
    EXPECT_TRUE(matches("a/**/x", "a/b/c/x"));
    EXPECT_FALSE(matches("a/**/x", "ax"));
    EXPECT_FALSE(matches("a/**/x", "a/bx"));
    EXPECT_TRUE(matches("a/b**x", "a/b/c/x"));
    EXPECT_TRUE(matches("/**", "anything/at/all"));
    EXPECT_TRUE(matches("a?c", "abc"));
    EXPECT_FALSE(matches("/a?c", "a/c"));
    EXPECT_FALSE(matches("/a[!x]c", "a/c"));
}

TEST(Exclude, SetsHoldRangesAndNegations) {
    EXPECT_TRUE(matches("[a-c]x", "bx"));
    EXPECT_FALSE(matches("[a-c]x", "dx"));
    EXPECT_TRUE(matches("[!a-c]x", "dx"));
    EXPECT_FALSE(matches("[^a-c]x", "ax"));
    EXPECT_TRUE(matches("[]]", "]"));
    EXPECT_TRUE(matches("[!]]", "x"));
    EXPECT_TRUE(matches("[a-]", "-"));
    EXPECT_TRUE(matches("[\\]]", "]"));
    EXPECT_TRUE(matches("[\x80-\xff]", "\xe4"));
}

TEST(Exclude, BackslashTakesTheNextByteAsItIs) {
    EXPECT_TRUE(matches("\\*", "*"));
    EXPECT_FALSE(matches("\\*", "x"));
    EXPECT_TRUE(matches("a\\[b", "a[b"));
    EXPECT_TRUE(matches("a\\\\", "a\\"));
}

TEST(Exclude, BytesNeedNotBeText) {
    EXPECT_TRUE(matches("\xff*", "\xff\xfe\n"));
    EXPECT_TRUE(matches("?", "\xff"));
}

TEST(Exclude, TreeMatchesBelowAnExcludedDirectory) {
    const ExcludeRules rules({"/cache/", "*.log"});
    EXPECT_TRUE(rules.matches_tree("cache/a/b", false));
    EXPECT_TRUE(rules.matches_tree("a.log/b", false));
    EXPECT_TRUE(rules.matches_tree("a/b.log", false));
    EXPECT_FALSE(rules.matches_tree("cache", false));
    EXPECT_TRUE(rules.matches_tree("cache", true));
    EXPECT_FALSE(rules.matches_tree("a/cache/b", false));
    EXPECT_FALSE(rules.matches("cache/a/b", false));
    EXPECT_FALSE(ExcludeRules().matches_tree("x", true));
}

TEST(Exclude, MalformedPatternIsAUsageError) {
    for (const std::string& pattern :
         {std::string(), std::string("/"), std::string("//"), std::string("a//b"), std::string("../x"), std::string("a/./b"),
          std::string("[abc"), std::string("[z-a]"), std::string("a\\"), std::string("a\0b", 3), std::string(5000, 'x')}) {
        try {
            ExcludeRules({pattern});
            ADD_FAILURE() << pattern;
        } catch (const Error& error) {
            EXPECT_EQ(error.status(), ExitStatus::kUsage) << pattern;
        }
    }
}

TEST(Exclude, HardPatternTakesNoExponentialTime) {
    std::string pattern;
    for (int i = 0; i < 60; ++i) {
        pattern += "*a";
    }
    EXPECT_FALSE(matches(pattern + "b", std::string(250, 'a')));
    std::string deep = "/";
    for (int i = 0; i < 60; ++i) {
        deep += "**/a/";
    }
    std::string path = "a";
    for (int i = 0; i < 1000; ++i) {
        path += "/a";
    }
    EXPECT_TRUE(matches(deep + "a", path));
    EXPECT_FALSE(matches(deep + "b", path));
}

// What a shell makes of the words.
std::string pasted(const std::string& words) {
    return test::run({"bash", "-c", "printf '%s|' " + words});
}

TEST(Exclude, SuggestedOptionMatchesJustItsPath) {
    for (const std::string path : {"cache", "a/b", "we*ird", "[x]", "back\\slash", "\xff?", "a b[1]*", "n\nl", "it's", "$HOME `id`",
                                   "\x01"
                                   "1f",
                                   "\xc3\xa9t\xc3\xa9", "~", "a\n'b\\"}) {
        const std::string option = exclude_option_of(path);
        EXPECT_TRUE(std::all_of(option.begin(), option.end(), [](char c) { return c >= ' ' && c <= '~'; })) << option;
        const std::string words = pasted(option);
        ASSERT_TRUE(words.starts_with("--exclude|/") && words.ends_with("|")) << words;
        const std::string pattern = words.substr(10, words.size() - 11);
        EXPECT_TRUE(matches(pattern, path)) << pattern;
        EXPECT_FALSE(matches(pattern, "x/" + path)) << pattern;
        EXPECT_FALSE(matches(pattern, path + "x")) << pattern;
    }
    EXPECT_EQ(exclude_option_of("a*"), "--exclude '/a\\*'");
    EXPECT_EQ(exclude_option_of("data/cache"), "--exclude /data/cache");
}

// The plain definition, slow, to compare with: [pattern, path] from their ends.
bool slow_match(std::string_view pattern, std::string_view path) {
    if (pattern.empty()) {
        return path.empty();
    }
    if (pattern.front() == '*') {
        return slow_match(pattern.substr(1), path) || (!path.empty() && path.front() != '/' && slow_match(pattern, path.substr(1)));
    }
    return !path.empty() && (pattern.front() == path.front() || (pattern.front() == '?' && path.front() != '/')) &&
           slow_match(pattern.substr(1), path.substr(1));
}

TEST(Exclude, AgreesWithThePlainDefinition) {
    std::mt19937 random(1);
    const auto pick = [&](std::string_view from, std::size_t length) {
        std::string text;
        while (text.size() < length) {
            text += from[random() % from.size()];
        }
        return text;
    };
    int matched = 0;
    for (int i = 0; i < 20000; ++i) {
        std::string pattern = pick("ab*?", 1 + random() % 4) + "/" + pick("ab*?", 1 + random() % 4);
        if (pattern.find("**") != std::string::npos) {
            continue;
        }
        const std::string path = pick("ab", 1 + random() % 4) + "/" + pick("ab", 1 + random() % 4);
        const bool expected = slow_match(pattern, path);
        matched += expected ? 1 : 0;
        ASSERT_EQ(matches(pattern, path), expected) << pattern << " " << path;
    }
    EXPECT_GT(matched, 100);
}

}  // namespace
}  // namespace nodesnap

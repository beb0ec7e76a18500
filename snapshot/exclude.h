// ExcludeRules: which paths below the node directory are left out. A pattern is matched as rsync and gitignore users expect: with a '/' in
// it (other than at its end) it is anchored at the node directory ("cache/tmp", "/cache"), otherwise it matches a name at any depth
// ("*.tmp"). '*' and
// '?' don't match '/', "**" does, and "**/" also matches nothing; "[...]" are sets ("[a-z]", "[!0-9]"); a backslash takes the next byte as
// it is. A '/' at the end limits a pattern to directories. An excluded directory leaves out all that is below it. Paths are bytes, without
// a '/' at the beginning. Matching takes time proportional to the lengths of pattern and path. Immutable, shareable between threads.
#pragma once

#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nodesnap {

class ExcludeRules {
public:
    ExcludeRules() = default;
    explicit ExcludeRules(std::vector<std::string> patterns);               // Error::usage for an empty or malformed one
    bool matches(std::string_view relative_path, bool is_directory) const;  // of the entry itself, not of its ancestors
    // The entry or any of its ancestors.
    bool matches_tree(std::string_view relative_path, bool is_directory) const;
    const std::vector<std::string>& patterns() const { return patterns_; }
    bool empty() const { return patterns_.empty(); }

private:
    // A pattern is a small automaton: state i waits for token i, and the state behind the last token is the end.
    struct Token {
        enum class Kind : std::uint8_t {
            kByte,
            kAnyByte,
            kSet,
            kStar,       // any bytes but '/'
            kDeepStar,   // any bytes
            kDeepBegin,  // "**" of "**/": on to the next token, or over it
            kDeepBody,   // and then any bytes up to a '/'
        };
        Kind kind = Kind::kByte;
        unsigned char byte = 0;
        std::uint32_t set = 0;  // index into the rule's sets
    };
    struct Rule {
        std::vector<Token> tokens;
        std::vector<std::bitset<256>> sets;
        bool literal = true;  // kByte tokens only
        bool anchored = false;
        bool directories_only = false;
    };
    class Compiler;
    class Matcher;
    static bool matches(const Rule& rule, std::string_view path, bool is_directory);

    std::vector<std::string> patterns_;
    std::vector<Rule> rules_;
};

// The option that leaves out just this path, for messages that suggest it: can be pasted into a shell.
std::string exclude_option_of(std::string_view relative_path);

}  // namespace nodesnap

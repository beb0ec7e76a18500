#include "snapshot/exclude.h"

#include <algorithm>
#include <utility>

#include "platform/error.h"
#include "snapshot/shell_word.h"

namespace nodesnap {
namespace {

constexpr std::size_t kLongestPattern = 4096;

[[noreturn]] void refuse(const std::string& pattern, const std::string& why) {
    throw Error::usage("the pattern \"" + pattern + "\" " + why,
                       "see \"Excluding files\" in the operator's guide for what a pattern may hold");
}

}  // namespace

class ExcludeRules::Compiler {
public:
    explicit Compiler(const std::string& pattern) : pattern_(pattern), rest_(pattern) {}

    Rule compile() {
        strip_ends();
        check_components();
        while (at_ < rest_.size()) {
            take();
        }
        return std::move(rule_);
    }

private:
    void strip_ends() {
        if (pattern_.size() > kLongestPattern) {
            refuse(pattern_.substr(0, 40) + "...", "is longer than 4096 bytes");
        }
        while (rest_.starts_with("./")) {
            rest_.remove_prefix(2);
            rule_.anchored = true;
        }
        while (rest_.ends_with('/')) {
            rest_.remove_suffix(1);
            rule_.directories_only = true;
        }
        rule_.anchored = rule_.anchored || rest_.find('/') != std::string_view::npos;
        while (rest_.starts_with('/')) {
            rest_.remove_prefix(1);
        }
        if (rest_.empty()) {
            refuse(pattern_, pattern_.empty() ? "is empty" : "names the node directory itself");
        }
    }

    // What can never match is a mistake that the operator should hear of.
    void check_components() const {
        if (rest_.find('\0') != std::string_view::npos) {
            refuse(pattern_, "holds a zero byte");
        }
        for (std::size_t begin = 0; begin <= rest_.size();) {
            const std::size_t end = std::min(rest_.find('/', begin), rest_.size());
            const std::string_view component = rest_.substr(begin, end - begin);
            if (component.empty() || component == "." || component == "..") {
                refuse(pattern_, "holds an empty component, \".\" or \"..\", which no path below the node directory does");
            }
            begin = end + 1;
        }
    }

    void take() {
        const char c = rest_[at_++];
        switch (c) {
            case '*':
                return take_star();
            case '?':
                return add(Token::Kind::kAnyByte);
            case '[':
                return take_set();
            case '\\':
                if (at_ == rest_.size()) {
                    refuse(pattern_, "ends in a backslash");
                }
                return add_byte(rest_[at_++]);
            default:
                return add_byte(c);
        }
    }

    void take_star() {
        const bool begins_component = at_ == 1 || rest_[at_ - 2] == '/';
        if (at_ == rest_.size() || rest_[at_] != '*') {
            return add(Token::Kind::kStar);
        }
        while (at_ < rest_.size() && rest_[at_] == '*') {
            ++at_;
        }
        if (begins_component && at_ < rest_.size() && rest_[at_] == '/') {
            ++at_;
            add(Token::Kind::kDeepBegin);
            return add(Token::Kind::kDeepBody);
        }
        add(Token::Kind::kDeepStar);
    }

    // After '['. A ']' that comes first is a member.
    void take_set() {
        const bool negated = at_ < rest_.size() && (rest_[at_] == '!' || rest_[at_] == '^');
        at_ += negated ? 1 : 0;
        std::bitset<256> set;
        for (bool first = true;; first = false) {
            if (at_ < rest_.size() && rest_[at_] == ']' && !first) {
                ++at_;
                break;
            }
            const unsigned low = take_member();
            unsigned high = low;
            if (at_ + 1 < rest_.size() && rest_[at_] == '-' && rest_[at_ + 1] != ']') {
                ++at_;
                high = take_member();
            }
            if (high < low) {
                refuse(pattern_, "holds a range that ends before it begins");
            }
            for (unsigned member = low; member <= high; ++member) {
                set.set(member);
            }
        }
        if (negated) {
            set.flip();
        }
        set.reset('/');
        Token token{Token::Kind::kSet, 0, static_cast<std::uint32_t>(rule_.sets.size())};
        rule_.sets.push_back(set);
        rule_.tokens.push_back(token);
        rule_.literal = false;
    }

    unsigned take_member() {
        if (at_ < rest_.size() && rest_[at_] == '\\') {
            ++at_;
        }
        if (at_ >= rest_.size()) {
            refuse(pattern_, "has a '[' without a ']'; write \\[ for the character itself");
        }
        return static_cast<unsigned char>(rest_[at_++]);
    }

    void add(Token::Kind kind) {
        rule_.tokens.push_back({kind, 0, 0});
        rule_.literal = false;
    }
    void add_byte(char byte) { rule_.tokens.push_back({Token::Kind::kByte, static_cast<unsigned char>(byte), 0}); }

    const std::string& pattern_;
    std::string_view rest_;
    std::size_t at_ = 0;
    Rule rule_;
};

// Follows all ways through the automaton at once, so that no pattern takes more than |pattern| * |path| steps.
class ExcludeRules::Matcher {
public:
    explicit Matcher(const Rule& rule) : rule_(rule), seen_(rule.tokens.size() + 1, 0) {}

    bool matches(std::string_view text) {
        enter(0);
        for (const char c : text) {
            std::swap(now_, next_);
            next_.clear();
            ++round_;
            for (const std::size_t state : now_) {
                advance(state, static_cast<unsigned char>(c));
            }
            if (next_.empty()) {
                return false;
            }
        }
        return seen_.back() == round_;
    }

private:
    void advance(std::size_t state, unsigned char byte) {
        if (state == rule_.tokens.size()) {
            return;
        }
        const Token& token = rule_.tokens[state];
        switch (token.kind) {
            case Token::Kind::kByte:
                return byte == token.byte ? enter(state + 1) : void();
            case Token::Kind::kAnyByte:
                return byte != '/' ? enter(state + 1) : void();
            case Token::Kind::kSet:
                return rule_.sets[token.set][byte] ? enter(state + 1) : void();
            case Token::Kind::kStar:
                return byte != '/' ? enter(state) : void();
            case Token::Kind::kDeepStar:
                return enter(state);
            case Token::Kind::kDeepBegin:
                return;
            case Token::Kind::kDeepBody:
                enter(state);
                return byte == '/' ? enter(state + 1) : void();
        }
    }

    // A state, and those that are reached from it without a byte.
    void enter(std::size_t state) {
        while (seen_[state] != round_) {
            seen_[state] = round_;
            next_.push_back(state);
            if (state == rule_.tokens.size()) {
                return;
            }
            const Token::Kind kind = rule_.tokens[state].kind;
            if (kind == Token::Kind::kDeepBegin) {
                enter(state + 2);
            } else if (kind != Token::Kind::kStar && kind != Token::Kind::kDeepStar) {
                return;
            }
            ++state;
        }
    }

    const Rule& rule_;
    std::vector<std::size_t> seen_;  // the round in which a state was last entered
    std::vector<std::size_t> now_;
    std::vector<std::size_t> next_;
    std::size_t round_ = 1;
};

ExcludeRules::ExcludeRules(std::vector<std::string> patterns) : patterns_(std::move(patterns)) {
    rules_.reserve(patterns_.size());
    for (const std::string& pattern : patterns_) {
        rules_.push_back(Compiler(pattern).compile());
    }
}

bool ExcludeRules::matches(const Rule& rule, std::string_view path, bool is_directory) {
    if (rule.directories_only && !is_directory) {
        return false;
    }
    if (!rule.anchored) {
        path.remove_prefix(path.rfind('/') + 1);  // npos + 1 is 0
    }
    if (rule.literal) {
        return std::equal(path.begin(), path.end(), rule.tokens.begin(), rule.tokens.end(),
                          [](char c, const Token& token) { return static_cast<unsigned char>(c) == token.byte; });
    }
    return Matcher(rule).matches(path);
}

bool ExcludeRules::matches(std::string_view relative_path, bool is_directory) const {
    return std::any_of(rules_.begin(), rules_.end(), [&](const Rule& rule) { return matches(rule, relative_path, is_directory); });
}

bool ExcludeRules::matches_tree(std::string_view relative_path, bool is_directory) const {
    if (rules_.empty()) {
        return false;
    }
    for (std::size_t slash = relative_path.find('/'); slash != std::string_view::npos; slash = relative_path.find('/', slash + 1)) {
        if (matches(relative_path.substr(0, slash), true)) {
            return true;
        }
    }
    return matches(relative_path, is_directory);
}

std::string exclude_option_of(std::string_view relative_path) {
    std::string pattern = "/";
    for (const char c : relative_path) {
        if (c == '*' || c == '?' || c == '[' || c == '\\') {
            pattern += '\\';
        }
        pattern += c;
    }
    return "--exclude " + shell_word(pattern);
}

}  // namespace nodesnap

// ExcludeRules: which paths below the node directory are left out. A pattern is matched as rsync and gitignore users expect:
// with a '/' in it (other than at its end) it is anchored at the node directory ("cache/tmp", "/cache"), otherwise it matches a name at any depth ("*.tmp"); '*' and '?' don't
// match '/', "**" does; "[...]" are sets; a '/' at the end limits it to directories. An excluded directory leaves out all that is below it. Paths are bytes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace nodesnap {

class ExcludeRules {
public:
    ExcludeRules() = default;
    explicit ExcludeRules(std::vector<std::string> patterns);  // Error::usage for an empty or malformed one
    bool matches(std::string_view relative_path, bool is_directory) const;  // of the entry itself, not of its ancestors
    // The entry or any of its ancestors.
    bool matches_tree(std::string_view relative_path, bool is_directory) const;
    const std::vector<std::string>& patterns() const { return patterns_; }
    bool empty() const { return patterns_.empty(); }

private:
    struct Rule {
        std::string glob;
        bool anchored = false;
        bool directories_only = false;
    };
    std::vector<std::string> patterns_;
    std::vector<Rule> rules_;
};

}  // namespace nodesnap

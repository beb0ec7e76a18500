#include "snapshot/command/profile.h"

#include <algorithm>

#include "platform/error.h"
#include "snapshot/command/printable.h"

namespace nodesnap::command {
namespace {

struct Profile {
    const char* name;
    const char* text;  // a configuration file
};

// The validate commands open what was restored, never the node itself. That they may write to it is as it should be: so would the daemon.
constexpr Profile kProfiles[] = {
    {"quasardb",
     "[restore]\n"
     "gate-file = CURRENT\n"
     "[drill]\n"
     "validate-command = qdb_dbtool --database=\"$NODESNAP_DIRECTORY\" --analyze\n"},
    {"rocksdb",
     "[restore]\n"
     "gate-file = CURRENT\n"
     "[drill]\n"
     "validate-command = ldb --db=\"$NODESNAP_DIRECTORY\" checkconsistency\n"},
    {"postgresql",
     "[restore]\n"
     "gate-file = PG_VERSION\n"
     "[drill]\n"
     "validate-command = pg_controldata -D \"$NODESNAP_DIRECTORY\"\n"},
    {"generic", ""},
};

}  // namespace

void declare_profile(OptionSet& options) {
    options.value("profile", "NAME", "what fits an engine, where nothing else is said: quasardb, rocksdb, postgresql or generic");
}

const std::vector<std::string>& profile_names() {
    static const std::vector<std::string> kNames = [] {
        std::vector<std::string> names;
        for (const Profile& profile : kProfiles) {
            names.emplace_back(profile.name);
        }
        return names;
    }();
    return kNames;
}

std::vector<ConfigEntry> profile_entries(const std::string& name) {
    const auto* const found =
        std::find_if(std::begin(kProfiles), std::end(kProfiles), [&](const Profile& profile) { return name == profile.name; });
    if (found == std::end(kProfiles)) {
        const std::string near = suggestion(name, profile_names());
        throw Error::usage("--profile: there is no profile \"" + shortened(printable_name(name)) + "\"",
                           near.empty() ? "quasardb, rocksdb, postgresql and generic are" : near);
    }
    return parse_config(found->text, "the profile " + name);
}

}  // namespace nodesnap::command

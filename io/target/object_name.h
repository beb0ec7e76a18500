// The names of objects: relative, '/'-separated, of [A-Za-z0-9._-], no component empty, beginning with a dot or over 200 bytes long.
#pragma once

#include <string>
#include <string_view>

namespace nodesnap {

inline constexpr std::size_t kSmallObjectLimit = std::size_t{64} << 20;  // of create() and swap()

bool valid_object_name(std::string_view name) noexcept;
void check_object_name(std::string_view name);  // Error::failed if it isn't valid
void check_staging_id(std::string_view id);     // the same for a name of one component
std::string folder_of(std::string_view name);   // "packs/0a" of "packs/0a/x.pack"; "" at the root

}  // namespace nodesnap

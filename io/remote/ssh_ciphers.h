// Which cipher ssh is asked to prefer. Its own choice, chacha20-poly1305, is the slower one on a CPU that has AES.
#pragma once

#include <string>

#include "io/remote/ssh.h"

namespace nodesnap::remote {

// "aes128-gcm@openssh.com,...", all of ssh's ciphers with that one first: where this CPU has AES, and neither the operator's configuration
// nor that of this host says anything about ciphers for `place`. Else empty: as it is. Runs `ssh -G` twice. Any thread.
std::string preferred_ciphers(const SshPlace& place);

// The same from what `ssh -G` says with the configuration and without any.
std::string preferred_ciphers(const std::string& configured, const std::string& built_in);

}  // namespace nodesnap::remote

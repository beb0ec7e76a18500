// What this host's CPUs can do. Any thread.
#pragma once

namespace nodesnap {

bool cpu_has_aes();  // instructions for it; false if that isn't known

}  // namespace nodesnap

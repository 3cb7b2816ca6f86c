// What ggml's RPC backend lacks, and our patch of it calls: servers that go away without taking their client along, and servers
// that have our operation. Called from Rust, too.
//
// Stock servers answer a greeting with a byte that is not used, 0. Those of this build set it where all their devices have the
// operation. Whoever does not know of it ignores it.
#pragma once

#include "ggml-backend.h"

#ifdef __cplusplus
extern "C" {
#endif

// --- a client -------------------------------------------------------------------------------------

// `endpoint`, such as "10.0.0.2:50052", answered the greeting, with `mark` in the unused byte.
GGML_BACKEND_API void svf_rpc_met(const char * endpoint, uint8_t mark);

// The connection to `endpoint` broke. What was to be computed there is 0 from now on.
GGML_BACKEND_API void svf_rpc_lost(const char * endpoint);

// Whether it did since `endpoint` was met last.
GGML_BACKEND_API bool svf_rpc_is_lost(const char * endpoint);

// Whether the devices of `endpoint` compute `node`, one of our operation, whichever they are.
GGML_BACKEND_API bool svf_rpc_supports(const char * endpoint, const struct ggml_tensor * node);

// Lets the connection end when the machine at its other end does.
GGML_BACKEND_API void svf_rpc_watch(intptr_t socket);

// --- a server -------------------------------------------------------------------------------------

// The byte that a server answers a greeting with.
GGML_BACKEND_API uint8_t svf_rpc_mark(void);

// Lets servers of this process say that they have the operation, if all `devices` do.
GGML_BACKEND_API bool svf_rpc_offer(size_t n_devices, ggml_backend_dev_t * devices);

#ifdef __cplusplus
}
#endif

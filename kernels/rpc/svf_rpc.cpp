// See svf_rpc.h.
#include "svf_rpc.h"
#include "svf_mul_mat.h"

#include <atomic>
#include <mutex>
#include <string>
#include <unordered_map>

#ifdef _WIN32
#  include <winsock2.h>
#else
#  include <netinet/in.h>
#  include <netinet/tcp.h>
#  include <sys/socket.h>
#endif

namespace {

// Says "I have svf_mul_mat, as this version of svf_mul_mat.h describes it". Another contract is another number.
constexpr uint8_t MARK = 0x51;

struct server {
    bool has_op  = false;
    bool is_lost = false;
};

std::mutex                              mutex;
std::unordered_map<std::string, server> servers;
std::atomic<uint8_t>                    offered = 0;

// The types that the kernels of all devices read.
bool is_type_of_all(ggml_type type) {
    return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_Q8_0;
}

} // namespace

void svf_rpc_met(const char * endpoint, uint8_t mark) {
    std::lock_guard<std::mutex> lock(mutex);
    servers[endpoint] = { mark == MARK, false };
}

void svf_rpc_lost(const char * endpoint) {
    std::lock_guard<std::mutex> lock(mutex);
    servers[endpoint].is_lost = true;
}

bool svf_rpc_is_lost(const char * endpoint) {
    std::lock_guard<std::mutex> lock(mutex);
    const auto found = servers.find(endpoint);
    return found != servers.end() && found->second.is_lost;
}

bool svf_rpc_supports(const char * endpoint, const ggml_tensor * node) {
    std::lock_guard<std::mutex> lock(mutex);
    const auto found = servers.find(endpoint);
    return found != servers.end() && found->second.has_op
        && is_type_of_all(node->src[SVF_SRC_VT]->type) && is_type_of_all(node->src[SVF_SRC_U]->type);
}

void svf_rpc_watch(intptr_t socket) {
    // A peer that computes is silent for as long as it takes; its system answers these.
    const auto set = [socket](int level, int option, int value) {
        // Where the system does not know one, the connection ends later.
        (void) setsockopt(socket, level, option, (const char *) &value, sizeof(value));
    };
    set(SOL_SOCKET, SO_KEEPALIVE, 1);
#ifdef TCP_KEEPIDLE
    set(IPPROTO_TCP, TCP_KEEPIDLE, 10);
#elif defined(TCP_KEEPALIVE)
    set(IPPROTO_TCP, TCP_KEEPALIVE, 10);
#endif
#ifdef TCP_KEEPINTVL
    set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
    set(IPPROTO_TCP, TCP_KEEPCNT, 4);
#endif
#ifdef TCP_USER_TIMEOUT
    // What was sent and is not acknowledged, in milliseconds.
    set(IPPROTO_TCP, TCP_USER_TIMEOUT, 30000);
#endif
}

uint8_t svf_rpc_mark(void) {
    return offered;
}

bool svf_rpc_offer(size_t n_devices, ggml_backend_dev_t * devices) {
    ggml_context * ctx = ggml_init({ 16 * ggml_tensor_overhead(), nullptr, true });
    if (ctx == nullptr) {
        return false;
    }
    ggml_tensor * x    = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 32, 1);
    ggml_tensor * vt   = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 32, 1);
    ggml_tensor * u    = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 1, 32);
    ggml_tensor * s    = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 1, 1);
    ggml_tensor * ids  = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, 1);
    ggml_tensor * node = svf_mul_mat(ctx, nullptr, vt, u, s, ids, x);
    bool all = true;
    for (size_t i = 0; i < n_devices; i++) {
        all = all && ggml_backend_dev_supports_op(devices[i], node);
    }
    ggml_free(ctx);
    offered = all ? MARK : 0;
    return all;
}

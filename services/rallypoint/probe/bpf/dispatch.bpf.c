// What is attached while programs may be swapped: at each hook a jump to the version in place 0 or,
// for a share of the connections, to the canary in place 1. An event is handled by one of them,
// once, whenever the places change.
#include "kernel.bpf.h"

struct {
    u32 canary_of_256;
} volatile choice;  // written by the loader

INLINE u32 place(void *sk) {
    u32 share = choice.canary_of_256;
    if (!share || !sk)
        return 0;
    // The cookie counts up: multiplied by the golden ratio its high bits are spread evenly.
    u64 spread = socket_cookie(sk) * 0x9E3779B97F4A7C15ULL;
    return (spread >> 56) < share;
}

#define DISPATCH(tracepoint, hook, socket_at)                   \
    struct {                                                    \
        __uint(type, MAP_PROG_ARRAY);                           \
        __uint(max_entries, 2);                                 \
        __type(key, u32);                                       \
        __type(value, u32);                                     \
    } to_##hook SEC(".maps");                                   \
    SEC("tp_btf/" #tracepoint) int on_##hook(u64 *ctx) {        \
        struct sock *sk = (struct sock *)ctx[socket_at];        \
        tail_call(ctx, &to_##hook, place(sk));                  \
        return 0;                                               \
    }

DISPATCH(inet_sock_set_state, state, 0)
DISPATCH(inet_sock_set_state, state_again, 0)
DISPATCH(tcp_probe, segment, 0)
DISPATCH(tcp_retransmit_skb, retransmit, 0)
DISPATCH(tcp_receive_reset, reset, 0)
DISPATCH(tcp_receive_reset, reset_again, 0)
DISPATCH(sk_data_ready, ready, 0)
DISPATCH(sock_recv_length, receive, 0)
DISPATCH(sock_send_length, send, 0)
DISPATCH(udp_fail_queue_rcv_skb, drop, 1)
DISPATCH(tcp_rcv_space_adjust, read_old, 0)

char _license[] SEC("license") = "Dual MIT/GPL";

// The programs, attached to the kernel's tracepoints themselves.
#include "hooks.bpf.h"

#define PROGRAM(tracepoint, hook)                     \
    SEC("tp_btf/" #tracepoint) int hook(u64 *ctx) {   \
        return at_##hook(ctx);                        \
    }

PROGRAM(inet_sock_set_state, state)
PROGRAM(inet_sock_set_state, state_again)
PROGRAM(tcp_probe, segment)
PROGRAM(tcp_retransmit_skb, retransmit)
PROGRAM(tcp_receive_reset, reset)
PROGRAM(tcp_receive_reset, reset_again)
PROGRAM(sk_data_ready, ready)
PROGRAM(sock_recv_length, receive)
PROGRAM(sock_send_length, send)
PROGRAM(udp_fail_queue_rcv_skb, drop)
PROGRAM(tcp_rcv_space_adjust, read_old)

char _license[] SEC("license") = "Dual MIT/GPL";

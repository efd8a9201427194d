// What happens at each hook, for the programs that are attached and for those that are swapped.
#pragma once
#include "socket.bpf.h"

INLINE int reached(u32 now, u32 end) { return (s32)(now - end) >= 0; }

INLINE void forget(struct socket_state *state) {
    state->arrivals_tail = state->arrivals_head;
    state->sends_tail = state->sends_head;
    state->unanswered_ns = 0;
}

// For a time nobody followed what came, was read and was sent: what waited then is forgotten.
INLINE void settle(struct socket_state *state, u32 protocol) {
    u16 level = config.full;
    if (state->level == level)
        return;
    state->level = level;
    forget(state);
    if (protocol == PROTO_UDP)
        state->taken = state->arrived;
}

INLINE struct slot *slot_if_full(struct socket_state *state, u32 protocol) {
    settle(state, protocol);
    return slot_of_state(state);
}

// 0 if there is no room for one more, or the oldest is so old that its time cannot be told.
INLINE int remember(struct waiting *waiting, u8 *head, u8 tail, u32 end, u64 now) {
    u8 at = *head, marks = at - tail;
    if (!marks)
        waiting->near_ns = now;
    else if (marks >= PENDING || (now - waiting->near_ns + EARLIER_NS) >> 32)
        return 0;
    struct mark *mark = &waiting->marks[at % PENDING];
    mark->at_ns = now;
    mark->end = end;
    barrier();  // whoever sees the head sees the mark
    *head = at + 1;
    return 1;
}

// When the oldest mark came, if all up to `done` is over and it is part of that; else 0.
INLINE u64 took(struct waiting *waiting, u8 head, u8 *tail, u32 done) {
    u8 at = *tail;
    if (at == head)
        return 0;
    barrier();
    struct mark *mark = &waiting->marks[at % PENDING];
    if (!reached(done, mark->end))
        return 0;
    u64 from = waiting->near_ns - EARLIER_NS, came = from + (u32)(mark->at_ns - (u32)from);
    waiting->near_ns = came;
    barrier();  // whoever finds it empty may write a time of its own
    *tail = at + 1;
    return came;
}

// Nothing, if another CPU was there first: it saw the end of what we only began to remember.
INLINE u64 since(u64 then, u64 now) { return then < now ? now - then : 0; }

INLINE void arrived(struct slot *slot, struct socket_state *state, u32 end, u64 now) {
    if (!remember(&state->arrivals, &state->arrivals_head, state->arrivals_tail, end, now))
        count(slot, ARRIVALS_UNTIMED, 1);
}

// Everything up to `taken` has been read.
INLINE void were_read(struct slot *slot, struct socket_state *state, u32 taken, u64 now) {
#pragma unroll
    for (int i = 0; i < PENDING; i++) {
        u64 came = took(&state->arrivals, state->arrivals_head, &state->arrivals_tail, taken);
        if (!came)
            return;
        record(slot, RECEIVE_QUEUE, since(came, now));
        if (!state->unanswered_ns)
            state->unanswered_ns = came;
    }
}

INLINE void were_acknowledged(struct slot *slot, struct socket_state *state, u32 una, u64 now) {
#pragma unroll
    for (int i = 0; i < PENDING; i++) {
        u64 sent = took(&state->sends, state->sends_head, &state->sends_tail, una);
        if (!sent)
            return;
        record(slot, ACK, since(sent, now));
    }
}

// At the end, if all is acknowledged: by a segment that no program saw, or after the farewell.
INLINE void count_unseen(struct slot *slot, struct socket_state *state, u32 una) {
    u8 head = state->sends_head, waiting = head - state->sends_tail;
    if (!waiting || !reached(una, state->sends.marks[(u8)(head - 1) % PENDING].end))
        return;
    count(slot, SENDS_UNTIMED, waiting);
    state->sends_tail = head;
}

// In 2^20 ns, which 32 bits tell for 52 days.
INLINE u32 window_of(u64 ns) { return ns >> 20; }

INLINE void end_window(struct slot *slot, struct socket_state *state) {
    if (state->least_us)
        record(slot, RTT_MIN, (u64)state->least_us * 1000);
    state->least_us = 0;
}

// RACK's last sample, if something was delivered since we looked; else 0. Unlike srtt it is one
// measurement, and unlike the sample of the congestion control it never spans a lost ACK.
INLINE u32 sample(struct sock *sk, struct tcp_sock *tcp, struct slot *slot,
                  struct socket_state *state) {
    u32 delivered = tcp->delivered, us = tcp->rack.rtt_us;
    if (delivered == state->delivered)
        return 0;
    state->delivered = delivered;
    u64 ns = (u64)us * 1000;
    if (us)
        record(slot, RTT, ns);
    if (config.slow_ns && ns > config.slow_ns)
        tell(sk, state->slot, SLOW, ns, clock_ns());
    return us;
}

INLINE void lower(struct socket_state *state, u32 us) {
    if (us && (!state->least_us || us < state->least_us))
        state->least_us = us;
}

INLINE void sample_in_window(struct sock *sk, struct tcp_sock *tcp, struct slot *slot,
                             struct socket_state *state, u64 now) {
    u32 us = sample(sk, tcp, slot, state);
    if (us && window_of(now) - state->window > window_of(config.window_ns)) {
        end_window(slot, state);
        state->window = window_of(now);
    }
    lower(state, us);
}

INLINE u32 count_retransmits(struct tcp_sock *tcp, struct slot *slot, struct socket_state *state) {
    u16 more = tcp->total_retrans - state->retransmits;
    if (more) {
        state->retransmits += more;
        count(slot, RETRANSMITS, more);
    }
    return more;
}

// A socket that connects again: the kernel's own sums begin at nothing as well.
INLINE void begin_anew(struct socket_state *state) {
    forget(state);
    state->delivered = state->arrived = 0;
    state->retransmits = 0;
    state->was_reset = 0;
}

// Twice at the same tracepoint, as resets are: while the kernel is in a program, an interrupt may
// have it take in packets on the same CPU, and for those it does not enter that program again, so
// all of that burst would be lost. It does enter the other. What one has counted, the other sees.
INLINE int change_of_state(u64 *ctx, int again) {
    struct sock *sk = (struct sock *)ctx[0];
    u32 from = ctx[1], to = ctx[2];
    if (to > TCP_SYN_RECV && to != TCP_CLOSE)  // on its way to being closed
        return 0;
    if (sk->sk_protocol != PROTO_TCP)
        return 0;
    struct socket_state *state = storage_get(&sockets, sk, 0, 0);
    if (state && state->phase == to)
        return 0;
    if (to == TCP_SYN_SENT || (to == TCP_SYN_RECV && !state)) {
        if (state)
            begin_anew(state);
        else
            state = watch_for(sk, to == TCP_SYN_SENT ? CLIENT : SERVER, again);
        struct slot *slot = state ? slot_for(state, again) : 0;
        if (slot) {
            state->phase = to;
            state->arrivals.near_ns = to == TCP_SYN_SENT ? clock_ns() : 0;
            count(slot, OPENS, 1);
        }
        return 0;
    }
    struct slot *slot = state ? slot_for(state, again) : 0;
    if (!slot)
        return 0;
    state->phase = to;
    if (to == TCP_ESTABLISHED) {
        count(slot, ESTABLISHED, 1);
        if (state->arrivals.near_ns)
            record(slot, CONNECT, clock_ns() - state->arrivals.near_ns);
    } else if (to == TCP_CLOSE) {
        struct tcp_sock *tcp = as_tcp_sock(sk);
        count(slot, from == TCP_SYN_SENT ? CONNECTS_FAILED : CLOSED, 1);
        if (from == TCP_ESTABLISHED || from == TCP_CLOSE_WAIT)
            count(slot, ABORTS, 1);
        if (tcp) {
            lower(state, sample(sk, tcp, slot, state));  // the window's last
            count_retransmits(tcp, slot, state);
            count_unseen(slot, state, tcp->snd_una);
        }
        end_window(slot, state);
    }
    return 0;
}

INLINE int at_state(u64 *ctx) { return change_of_state(ctx, 0); }
INLINE int at_state_again(u64 *ctx) { return change_of_state(ctx, 1); }

// A segment has come and is not yet processed: the round trip is the last one's, but the
// acknowledgement and the data are this one's.
INLINE int at_segment(u64 *ctx) {
    struct sock *sk = (struct sock *)ctx[0];
    struct sk_buff *skb = (struct sk_buff *)ctx[1];
    struct socket_state *state = storage_get(&sockets, sk, 0, 0);
    if (!state && !config.adopt)
        return 0;
    struct tcp_sock *tcp = as_tcp_sock(sk);
    if (!tcp)
        return 0;
    u64 now = clock_ns();
    if (!state) {
        state = adopted(sk, tcp);
        if (!state)
            return 0;
    }
    struct slot *slot = slot_of_state(state);
    if (!slot)
        return 0;
    sample_in_window(sk, tcp, slot, state, now);
    if (!config.full)
        return 0;
    settle(state, PROTO_TCP);
    struct tcp_skb_cb *cb = (struct tcp_skb_cb *)&skb->cb;
    if (state->sends_head != state->sends_tail) {
        u32 una = cb->ack_seq;
        if (!reached(tcp->snd_nxt, una))  // acknowledges what was never sent
            una = tcp->snd_una;
        were_acknowledged(slot, state, una, now);
    }
    if (config.old_hooks && cb->end_seq != cb->seq)
        arrived(slot, state, cb->end_seq, now);
    return 0;
}

INLINE int at_retransmit(u64 *ctx) {
    struct sock *sk = (struct sock *)ctx[0];
    struct tcp_sock *tcp = as_tcp_sock(sk);
    struct socket_state *state = tcp ? storage_get(&sockets, sk, 0, 0) : 0;
    struct slot *slot = state ? slot_of_state(state) : 0;
    if (!slot)
        return 0;
    u32 more = count_retransmits(tcp, slot, state);
    if (more)
        tell(sk, state->slot, RETRANSMIT, more, clock_ns());
    return 0;
}

INLINE int was_reset(u64 *ctx, int again) {
    struct sock *sk = (struct sock *)ctx[0];
    struct socket_state *state = sk ? storage_get(&sockets, sk, 0, 0) : 0;
    if (!state || state->was_reset)
        return 0;
    struct slot *slot = slot_for(state, again);
    if (slot) {
        state->was_reset = 1;
        count(slot, RESETS, 1);
    }
    return 0;
}

INLINE int at_reset(u64 *ctx) { return was_reset(ctx, 0); }
INLINE int at_reset_again(u64 *ctx) { return was_reset(ctx, 1); }

// Datagram sockets have no handshake: they are watched from the first datagram on. One that is not
// connected and has a port nobody chose is some client's, all of which share the port 0.
INLINE struct socket_state *datagram_state(struct sock *sk) {
    struct socket_state *state = storage_get(&sockets, sk, 0, 0);
    if (state)
        return state;
    if (sk->__sk_common.skc_family != AF_INET && sk->__sk_common.skc_family != AF_INET6)
        return 0;
    return watch(sk, peer_port(sk) || ephemeral(own_port(sk)) ? CLIENT : SERVER);
}

INLINE int at_ready(u64 *ctx) {
    struct sock *sk = (struct sock *)ctx[0];
    u16 protocol = sk->sk_protocol;
    if (!config.full)
        return 0;
    if (protocol == PROTO_TCP) {
        struct socket_state *state = storage_get(&sockets, sk, 0, 0);
        struct slot *slot = state ? slot_if_full(state, PROTO_TCP) : 0;
        struct tcp_sock *tcp = slot ? as_tcp_sock(sk) : 0;
        if (tcp) {
            state->arrived = tcp->rcv_nxt;
            arrived(slot, state, state->arrived, clock_ns());
        }
    } else if (protocol == PROTO_UDP) {
        struct socket_state *state = datagram_state(sk);
        struct slot *slot = state ? slot_if_full(state, PROTO_UDP) : 0;
        if (slot)
            arrived(slot, state, __sync_fetch_and_add(&state->arrived, 1) + 1, clock_ns());
    }
    return 0;
}

// A datagram socket was read. Nothing left (EAGAIN) mends what went uncounted, such as a datagram
// with a bad checksum, which arrived but is never read.
INLINE void took_datagram(struct slot *slot, struct socket_state *state, s32 got, u64 now) {
    u32 all = state->arrived;
    if (got < 0) {
        state->taken = all;
        state->arrivals_tail = state->arrivals_head;
        return;
    }
    u32 taken = state->taken + 1;
    if (!reached(all, taken)) {
        count(slot, ARRIVALS_UNTIMED, 1);
        taken = all;
    }
    state->taken = taken;
    were_read(slot, state, taken, now);
}

INLINE int at_receive(u64 *ctx) {
    struct sock *sk = (struct sock *)ctx[0];
    s32 got = ctx[1], flags = ctx[2];
    u16 protocol = sk->sk_protocol;
    if (!config.full || flags & MSG_PEEK || (protocol != PROTO_TCP && protocol != PROTO_UDP))
        return 0;
    if (got < (protocol == PROTO_TCP) && got != -EAGAIN)
        return 0;
    struct socket_state *state = storage_get(&sockets, sk, 0, 0);
    struct slot *slot = state ? slot_if_full(state, protocol) : 0;
    if (!slot)
        return 0;
    u64 now = clock_ns();
    if (got >= 0)
        count(slot, RECEIVES, 1);
    if (protocol == PROTO_UDP) {
        took_datagram(slot, state, got, now);
        return 0;
    }
    struct tcp_sock *tcp = as_tcp_sock(sk);
    if (!tcp)
        return 0;
    u32 taken = tcp->copied_seq;
    were_read(slot, state, taken, now);
    if (got > 0 && !(state->arrived && reached(state->arrived, taken))) {
        count(slot, ARRIVALS_UNTIMED, 1);
        state->arrived = taken;
    }
    return 0;
}

INLINE int at_read_old(u64 *ctx) {
    struct sock *sk = (struct sock *)ctx[0];
    struct tcp_sock *tcp = as_tcp_sock(sk);
    struct socket_state *state = tcp && config.full ? storage_get(&sockets, sk, 0, 0) : 0;
    struct slot *slot = state ? slot_if_full(state, PROTO_TCP) : 0;
    if (slot)
        were_read(slot, state, tcp->copied_seq, clock_ns());
    return 0;
}

INLINE int at_send(u64 *ctx) {
    struct sock *sk = (struct sock *)ctx[0];
    s32 sent = ctx[1];
    u16 protocol = sk->sk_protocol;
    if (!config.full || sent < 0 || (protocol != PROTO_TCP && protocol != PROTO_UDP))
        return 0;
    struct socket_state *state =
        protocol == PROTO_UDP ? datagram_state(sk) : storage_get(&sockets, sk, 0, 0);
    struct slot *slot = state ? slot_if_full(state, protocol) : 0;
    if (!slot)
        return 0;
    u64 now = clock_ns();
    if (state->unanswered_ns) {
        record(slot, TURNAROUND, since(state->unanswered_ns, now));
        state->unanswered_ns = 0;
    }
    struct tcp_sock *tcp = protocol == PROTO_TCP ? as_tcp_sock(sk) : 0;
    u32 end = tcp ? tcp->write_seq : 0;
    if (tcp && reached(tcp->snd_una, end)) {  // on loopback the answer is here before send() returns
        record(slot, ACK, 0);
        tcp = 0;
    } else if (tcp && !remember(&state->sends, &state->sends_head, state->sends_tail, end, now)) {
        count(slot, SENDS_UNTIMED, 1);
        tcp = 0;
    }
    count(slot, SENDS, 1);  // a barrier: what is remembered is seen by all before we look again
    if (tcp && reached(tcp->snd_una, end) &&
        took(&state->sends, state->sends_head, &state->sends_tail, end))
        record(slot, ACK, 0);  // acknowledged meanwhile, by a segment that found nothing waiting
    return 0;
}

INLINE int at_drop(u64 *ctx) {
    struct sock *sk = (struct sock *)ctx[1];
    if (!sk)
        return 0;
    struct socket_state *state = datagram_state(sk);
    struct slot *slot = state ? slot_of_state(state) : 0;
    if (slot)
        count(slot, DROPS, 1);
    return 0;
}

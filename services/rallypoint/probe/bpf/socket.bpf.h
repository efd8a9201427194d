// Maps, and what a program does with them: find a socket's state and slot, count, record.
#pragma once
#include "layout.bpf.h"

struct mark {
    u32 at_ns;  // the low half
    u32 end;    // sequence number after it
};
// What waits, oldest first. Half of a time is enough as long as the newest came at most 3.2 s after
// the last that was taken or, where none was, the oldest. Or 1.1 s before: two CPUs may race.
#define EARLIER_NS (1ULL << 30)
struct waiting {
    u64 near_ns;  // the time of that one
    struct mark marks[PENDING];
};
// 184 bytes, with what the kernel puts before it 256: its memory comes in powers of two, and to
// get the next one takes a third longer.
struct socket_state {
    u32 generation;
    u16 slot;
    u16 retransmits;
    u64 unanswered_ns;  // arrival of the first data read since the last send
    u32 window;         // began then, see window_of
    u32 least_us;       // of the window
    union {
        u32 delivered;
        u32 taken;  // of a datagram socket
    };
    u32 arrived;  // up to where arrivals were told; of datagrams how many
    u8 arrivals_head, arrivals_tail;  // one softirq writes, one reader reads
    u8 sends_head, sends_tail;
    u16 level;  // the `full` that the marks are of
    u8 phase;   // the last state that was counted
    u8 was_reset;
    struct waiting arrivals;  // near_ns: when connecting began, while it goes on
    struct waiting sends;
};
_Static_assert(sizeof(struct socket_state) == 184, "one power of two");

struct {
    __uint(type, MAP_ARRAY);
    __uint(map_flags, F_MMAPABLE);
    __uint(max_entries, SLOTS);
    __type(key, u32);
    __type(value, struct slot);
} slots SEC(".maps");
struct {
    __uint(type, MAP_HASH);
    __uint(max_entries, SLOTS);
    __type(key, struct key);
    __type(value, u32);
} slot_of SEC(".maps");
struct {
    __uint(type, MAP_QUEUE);
    __uint(max_entries, SLOTS);
    __type(value, u32);
} free_slots SEC(".maps");
struct {
    __uint(type, MAP_SK_STORAGE);
    __uint(map_flags, F_NO_PREALLOC);
    __type(key, u32);
    __type(value, struct socket_state);
} sockets SEC(".maps");
struct {
    __uint(type, MAP_HASH);
    __uint(max_entries, 4096);
    __type(key, u64);
    __type(value, u32);
} watched_cgroups SEC(".maps");
struct {
    __uint(type, MAP_HASH);
    __uint(max_entries, 256);
    __type(key, u16);
    __type(value, u32);
} watched_ports SEC(".maps");
struct {
    __uint(type, MAP_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");
struct {
    __uint(type, MAP_ARRAY);
    __uint(map_flags, F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, u64[TOTALS]);
} totals SEC(".maps");

volatile struct config config = {.window_ns = 1000000000, .full = 1};
// Which slots this version of the programs writes; the loader sets 1 for a canary.
const volatile u32 bank = 0;
// Versions that disagree about what lies in the maps must not share them: the loader compares.
const volatile u32 layout = LAYOUT;

INLINE void total(enum total_id id) {
    u32 zero = 0;
    u64 *all = map_lookup(&totals, &zero);
    if (all)
        __sync_fetch_and_add(&all[id], 1);
}

INLINE void count(struct slot *slot, enum counter_id id, u64 by) {
    __sync_fetch_and_add(&slot->counters[id], by);
}

INLINE void record(struct slot *slot, enum histogram_id id, u64 ns) {
    struct histogram *h = &slot->histograms[id];
    u32 at = bucket(ns);
    asm volatile("" : "+r"(at));  // the verifier does not know its bound: newer compilers do
    __sync_fetch_and_add(&h->buckets[at & (BUCKETS - 1)], 1);
    __sync_fetch_and_add(&h->sum_ns, ns);
}

INLINE u32 own_port(struct sock *sk) { return sk->__sk_common.skc_num; }
INLINE u32 peer_port(struct sock *sk) { return __builtin_bswap16(sk->__sk_common.skc_dport); }
INLINE int ephemeral(u32 port) { return port >= 32768 && port <= 60999; }
INLINE u64 cgroup_of(struct sock *sk) { return sk->sk_cgrp_data.cgroup->kn->id; }

#define DEPTH 6  // kubepods / quality of service / pod / container, and two to spare

// Two loads, kept apart: merged into one with a chosen offset neither could be relocated.
INLINE struct kernfs_node *parent(struct kernfs_node *node) {
    struct kernfs_node___old *old = (void *)node;
    if (field_exists(old->parent)) {
        node = (void *)old->parent;
        asm volatile("" : "+r"(node));
    } else {
        node = node->__parent;
        asm volatile("" : "+r"(node)::"memory");
    }
    return node;
}

INLINE int below_pods(struct kernfs_node *node) {
    u64 root = config.pods_root;
    if (!root)
        return 0;
    for (int i = 0; i < DEPTH; i++) {
        if (!node)
            return 0;
        if (node->id == root)
            return 1;
        node = parent(node);
    }
    return 0;
}

INLINE int is_watched(struct sock *sk, u64 cgroup, u16 port) {
    if (!config.every_port && !map_lookup(&watched_ports, &port))
        return 0;
    return config.every_cgroup || below_pods(sk->sk_cgrp_data.cgroup->kn) ||
           map_lookup(&watched_cgroups, &cgroup);
}

INLINE void tell(struct sock *sk, u32 slot, u32 kind, u64 value, u64 now) {
    struct event *event = ring_reserve(&events, sizeof(*event), 0);
    if (!event) {
        total(EVENTS_LOST);
        return;
    }
    event->cookie = socket_cookie(sk);
    event->at_ns = now;
    event->value_ns = value;
    event->cgroup = cgroup_of(sk);
    event->slot = slot;
    event->kind = kind;
    ring_submit(event, 0);
}

// The slot of a key; a new key takes a free one, if it is wanted: what has a slot is.
INLINE struct slot *claim(struct sock *sk, struct key *key, u32 *index, int again) {
    u32 *known = map_lookup(&slot_of, key);
    if (known) {
        *index = *known;
        return map_lookup(&slots, index);
    }
    if (!is_watched(sk, key->cgroup, key->port))
        return 0;
    if (queue_pop(&free_slots, index)) {
        if (!again)
            total(SLOTS_FULL);
        return 0;
    }
    struct slot *slot = map_lookup(&slots, index);
    if (!slot)
        return 0;
    u64 now = clock_ns();
    slot->key = *key;
    slot->born_ns = now;
    if (map_update(&slot_of, key, index, NOEXIST)) {  // another CPU was quicker
        queue_push(&free_slots, index, 0);
        known = map_lookup(&slot_of, key);
        if (!known)
            return 0;
        *index = *known;
        return map_lookup(&slots, index);
    }
    slot->taken = 1;
    tell(sk, *index, NEW_SLOT, 0, now);  // who it is must be found while its cgroup still is
    return slot;
}

// Begin to watch a socket; null if nobody wants it or there is no room.
// `again`: another program has tried already, and counted what went wrong.
INLINE struct socket_state *watch_for(struct sock *sk, u32 role, int again) {
    u32 port = role == SERVER ? own_port(sk) : peer_port(sk);
    u32 index = 0;
    struct key key = {
        .cgroup = cgroup_of(sk),
        .netns = sk->__sk_common.skc_net.net->ns.inum,
        .port = port,
        .protocol = sk->sk_protocol,
        .role = role,
        .bank = bank,
    };
    struct slot *slot = claim(sk, &key, &index, again);
    if (!slot)
        return 0;
    struct socket_state *state = storage_get(&sockets, sk, 0, STORAGE_CREATE);
    if (!state) {
        if (!again)
            total(STORAGE_FAILED);
        return 0;
    }
    state->slot = index;
    state->generation = slot->generation;
    return state;
}

INLINE struct socket_state *watch(struct sock *sk, u32 role) {
    return watch_for(sk, role, 0);
}

INLINE struct slot *slot_for(struct socket_state *state, int again) {
    u32 index = state->slot;
    struct slot *slot = map_lookup(&slots, &index);
    if (!slot || slot->generation != state->generation) {
        if (!again)
            total(STALE);
        return 0;
    }
    return slot;
}

INLINE struct slot *slot_of_state(struct socket_state *state) { return slot_for(state, 0); }

// A connection that is older than the probe: taken only while `adopt` is set. Whose port nobody
// chose is the client; where that is said of both, only a port that is watched tells.
INLINE struct socket_state *adopted(struct sock *sk, struct tcp_sock *tcp) {
    if (!config.adopt || sk->__sk_common.skc_state != TCP_ESTABLISHED)
        return 0;
    u16 own = own_port(sk), peer = peer_port(sk);
    u32 role = ephemeral(own) && !ephemeral(peer) ? CLIENT : SERVER;
    if (ephemeral(own) && ephemeral(peer)) {
        if (map_lookup(&watched_ports, &peer))
            role = CLIENT;
        else if (!map_lookup(&watched_ports, &own))
            return 0;
    }
    struct socket_state *state = watch(sk, role);
    if (!state)
        return 0;
    state->delivered = tcp->delivered;
    state->retransmits = tcp->total_retrans;
    struct slot *slot = slot_of_state(state);
    if (slot)
        count(slot, ADOPTED, 1);
    return state;
}

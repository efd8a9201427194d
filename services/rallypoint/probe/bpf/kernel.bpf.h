// What we need to know of the kernel: integer names, map and helper numbers, and of its structures
// only the fields that we read. Offsets are relocated at load (CO-RE); there is no vmlinux.h.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
// A function that the verifier checks once, not once per call: 60 times fewer instructions.
#define CHECKED_ONCE __attribute__((noinline))

// 1 if the running kernel has the field, known at load.
#define field_exists(field) __builtin_preserve_field_info(field, 2)

#define barrier() asm volatile("" ::: "memory")

#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name

enum {
    MAP_HASH = 1,
    MAP_ARRAY = 2,
    MAP_PROG_ARRAY = 3,
    MAP_QUEUE = 22,
    MAP_SK_STORAGE = 24,
    MAP_RINGBUF = 27,
};
enum { F_NO_PREALLOC = 1, F_MMAPABLE = 1024 };
enum { NOEXIST = 1, STORAGE_CREATE = 1 };
enum { AF_INET = 2, AF_INET6 = 10, PROTO_TCP = 6, PROTO_UDP = 17 };
enum {
    TCP_ESTABLISHED = 1,
    TCP_SYN_SENT = 2,
    TCP_SYN_RECV = 3,
    TCP_CLOSE = 7,
    TCP_CLOSE_WAIT = 8,
};
enum { MSG_PEEK = 2, EAGAIN = 11 };

struct sock;
struct tcp_sock;

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const map_delete)(void *map, const void *key) = (void *)3;
static u64 (*const clock_ns)(void) = (void *)5;
static long (*const tail_call)(void *ctx, void *map, u32 index) = (void *)12;
static u64 (*const socket_cookie)(void *sk) = (void *)46;
static long (*const queue_push)(void *map, const void *value, u64 flags) = (void *)87;
static long (*const queue_pop)(void *map, void *value) = (void *)88;
static void *(*const storage_get)(void *map, void *sk, void *value, u64 flags) = (void *)107;
static void *(*const ring_reserve)(void *map, u64 size, u64 flags) = (void *)131;
static void (*const ring_submit)(void *data, u64 flags) = (void *)132;
static struct tcp_sock *(*const as_tcp_sock)(void *sk) = (void *)137;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
    u32 inum;
};
struct net {
    struct ns_common ns;
};
typedef struct {
    struct net *net;
} possible_net_t;
struct kernfs_node {
    u64 id;
    struct kernfs_node *__parent;
};
// Before Linux 6.15 the same field had another name.
struct kernfs_node___old {
    struct kernfs_node___old *parent;
};
struct cgroup {
    struct kernfs_node *kn;
};
struct sock_cgroup_data {
    struct cgroup *cgroup;
};
struct sock_common {
    u16 skc_family;
    u16 skc_num;
    u16 skc_dport;
    volatile unsigned char skc_state;
    possible_net_t skc_net;
};
struct sock {
    struct sock_common __sk_common;
    u16 sk_protocol;
    struct sock_cgroup_data sk_cgrp_data;
};
struct tcp_rack {
    u32 rtt_us;
};
struct tcp_sock {
    u32 rcv_nxt;
    u32 copied_seq;
    u32 snd_una;
    u32 snd_nxt;
    u32 write_seq;
    u32 delivered;
    u32 total_retrans;
    struct tcp_rack rack;
};
struct sk_buff {
    char cb[48];
};
struct tcp_skb_cb {
    u32 seq;
    u32 end_seq;
    u32 ack_seq;
};

#pragma clang attribute pop

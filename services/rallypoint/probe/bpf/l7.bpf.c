// Calls, opt-in: where requests and their ends are in the bytes of HTTP/2 (gRPC) and DNS. Attached to
// a cgroup, both ways; every packet passes as it is. Told are frame headers' times, the compressed
// block of a request's headers (only its reader can follow HPACK) and a DNS message's number; bodies
// and names asked for are not looked at. Twin: domain/l7.py.
#include "kernel.bpf.h"

#define BLOCK 256     // of a request's headers in one event; longer ones take several
#define STEPS 512    // frames, or pieces of one, in a packet; with more the connection is given up
#define FRAME_HEAD 9
#define PREFACE_BYTES 24
#define WAKE_BYTES (256 * 1024)
#define DNS_PORT 53
#define DNS_HEAD 12

struct bpf_sock;
struct bpf_tcp_sock {
    u32 before_nxt[4], rcv_nxt, snd_nxt, snd_una, after_una[13];
    u64 bytes_received, bytes_acked;
};
struct packet {  // struct __sk_buff
    u32 len, pkt_type, mark, queue_mapping, protocol, until_cb[7], cb[5], until_flow_keys[19];
    u64 flow_keys, tstamp;
    u32 wire_len, gso_segs;
    u64 sk;
};
static long (*const load_bytes)(void *skb, u32 offset, void *to, u32 len) = (void *)26;
static void *(*const full_sock)(void *sk) = (void *)95;
static struct bpf_tcp_sock *(*const tcp_of)(void *sk) = (void *)96;
static u64 (*const cgroup_id)(void *sk) = (void *)128;
static u64 (*const ring_query)(void *map, u64 what) = (void *)134;
static long (*const loop)(u32 times, void *step, void *context, u64 flags) = (void *)181;

enum { AVAILABLE = 0, NO_WAKEUP = 1, FORCE_WAKEUP = 2 };
enum way { IN, OUT };
enum role { UNKNOWN, CLIENT, SERVER };
enum verdict { UNDECIDED, FOLLOWED, OTHER };
enum kind { HEADERS = 1, END = 2, GIVEN_UP = 3, QUERY = 4, ANSWER = 5 };
enum frame_type { F_DATA = 0, F_HEADERS = 1, F_RST_STREAM = 3, F_SETTINGS = 4, F_CONTINUATION = 9 };
enum total_id { LATE, GAPS, EVENTS_LOST, TOTALS = 8 };

struct direction {
    u32 next;        // sequence number of the next frame's header
    u32 block_left;  // of the headers that end there
    u32 stream;
    u8 followed, have, flags, type;
    u8 head[16];  // what there is of a header that two packets share
};
struct connection {
    struct direction ways[2];
    u32 told;  // events so far: who reads them sees a gap
    u16 port;
    u8 role, verdict;
};
struct event {
    u64 cookie;
    u64 at_ns;
    u64 cgroup;
    u32 stream;  // of DNS the number of the message
    u32 number;  // counts up by connection
    u32 left;    // of the block, after this piece; of DNS a mix of the asker's port and address
    u16 port;    // the server's
    u16 length;
    u8 kind, flags, type, role;
    u32 spare;
    u8 block[BLOCK];
};

struct {
    __uint(type, MAP_SK_STORAGE);
    __uint(map_flags, F_NO_PREALLOC);
    __type(key, u32);
    __type(value, struct connection);
} connections SEC(".maps");
struct {
    __uint(type, MAP_RINGBUF);
    __uint(max_entries, 1024 * 1024);
} calls SEC(".maps");
struct {
    __uint(type, MAP_HASH);
    __uint(max_entries, 256);
    __type(key, u16);
    __type(value, u32);
} watched_ports SEC(".maps");
struct {
    __uint(type, MAP_ARRAY);
    __uint(map_flags, F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, u64[TOTALS]);
} call_totals SEC(".maps");

const volatile u32 every_port = 0;

struct walk {
    struct packet *skb;
    void *sk;
    struct connection *connection;
    u32 way, seq, at, len;  // of the payload: its first number, where it lies, how long it is
};

INLINE void total(enum total_id id) {
    u32 zero = 0;
    u64 *all = map_lookup(&call_totals, &zero);
    if (all)
        __sync_fetch_and_add(&all[id], 1);
}

// The reader looks once a second; it is woken only when the ring fills faster than that.
INLINE void submit(struct event *event) {
    ring_submit(event, ring_query(&calls, AVAILABLE) > WAKE_BYTES ? FORCE_WAKEUP : NO_WAKEUP);
}

INLINE struct event *begin(struct packet *skb, void *sk, u32 kind) {
    const u64 without_block = __builtin_offsetof(struct event, block);
    struct event *event =
        kind == HEADERS ? ring_reserve(&calls, sizeof(struct event), 0)
                        : ring_reserve(&calls, without_block, 0);
    if (!event) {
        total(EVENTS_LOST);
        return 0;
    }
    event->cookie = socket_cookie(skb);
    event->at_ns = clock_ns();
    event->cgroup = cgroup_id(sk);
    event->kind = kind;
    event->left = event->length = event->flags = event->type = event->spare = 0;
    return event;
}

INLINE struct event *begin_of(struct walk *walk, u32 kind, u32 stream) {
    struct connection *connection = walk->connection;
    struct event *event = begin(walk->skb, walk->sk, kind);
    u32 number = connection->told++;
    if (!event)
        return 0;
    event->number = number;
    event->stream = stream;
    event->port = connection->port;
    event->role = connection->role;
    return event;
}

INLINE void give_up(struct walk *walk) {
    total(GAPS);
    walk->connection->verdict = OTHER;
    struct event *event = begin_of(walk, GIVEN_UP, 0);
    if (event)
        submit(event);
}

// A piece of a request's headers; false at the end of what this packet has of them.
INLINE int tell_block(struct walk *walk, struct direction *way) {
    u32 left = way->block_left;
    u32 pos = way->next - left - walk->seq;
    if ((s32)pos < 0) {
        give_up(walk);
        return 0;
    }
    if (pos >= walk->len)
        return 0;
    u32 size = walk->len - pos;
    if (size > left)
        size = left;
    if (size > BLOCK)
        size = BLOCK;
    way->block_left = left - size;
    struct event *event = begin_of(walk, HEADERS, way->stream);
    if (!event)
        return 1;
    event->flags = way->flags;
    event->type = way->type;
    event->left = left - size;
    event->length = size;
    asm volatile("" : "+r"(size));
    if (size < 1 || size > BLOCK || load_bytes(walk->skb, walk->at + pos, event->block, size))
        event->length = 0;
    submit(event);
    return 1;
}

INLINE void tell_end(struct walk *walk, u32 stream, u32 type) {
    struct event *event = begin_of(walk, END, stream);
    if (!event)
        return;
    event->type = type;
    submit(event);
}

// The header of the next frame; false if it is not all here, or lies behind a hole.
INLINE int read_head(struct walk *walk, struct direction *way, u8 *head) {
    u32 pos = way->next + way->have - walk->seq;
    if ((s32)pos < 0) {
        give_up(walk);
        return 0;
    }
    if (pos >= walk->len)
        return 0;
    if (!way->have && walk->len - pos >= FRAME_HEAD)
        return !load_bytes(walk->skb, walk->at + pos, head, FRAME_HEAD);
#pragma unroll
    for (u32 i = 0; i < FRAME_HEAD; i++) {
        if (i < way->have)
            continue;
        if (pos >= walk->len)
            return 0;
        load_bytes(walk->skb, walk->at + pos, &way->head[i], 1);
        way->have = i + 1;
        pos++;
    }
    __builtin_memcpy(head, way->head, FRAME_HEAD);
    return 1;
}

static long step(u64 number, struct walk *walk) {
    struct direction *way = &walk->connection->ways[walk->way & 1];
    u8 head[16] = {};
    if (way->block_left)
        return !tell_block(walk, way);
    if (!read_head(walk, way, head))
        return 1;
    u32 size = head[0] << 16 | head[1] << 8 | head[2], type = head[3], flags = head[4];
    u32 stream = (head[5] & 0x7F) << 24 | head[6] << 16 | head[7] << 8 | head[8];
    way->next += FRAME_HEAD + size;
    way->have = 0;
    u32 role = walk->connection->role;
    if (role == UNKNOWN)
        return 0;
    int asks = (role == CLIENT) == (walk->way == OUT);
    if (asks && (type == F_HEADERS || type == F_CONTINUATION)) {
        way->block_left = size;
        way->stream = stream;
        way->flags = flags;
        way->type = type;
    } else if (type == F_RST_STREAM || (!asks && type <= F_HEADERS && flags & 1)) {
        tell_end(walk, stream, type);
    }
    return 0;
}

INLINE int is_preface(struct walk *walk) {
    u64 words[3];
    if (walk->len < PREFACE_BYTES || load_bytes(walk->skb, walk->at, words, PREFACE_BYTES))
        return 0;
    return words[0] == 0x5448202a20495250ULL && words[1] == 0x0a0d302e322f5054ULL &&
           words[2] == 0x0a0d0a0d4d530a0dULL;
}

// What a server says first may come before the client's first words.
INLINE int is_settings(struct walk *walk) {
    u8 head[16];
    if (walk->len < FRAME_HEAD || load_bytes(walk->skb, walk->at, head, FRAME_HEAD))
        return 0;
    return !head[0] && head[3] == F_SETTINGS && !head[4] && !(head[5] | head[6] | head[7] | head[8]);
}

// The first payload one way: follow it only from the connection's first byte on.
INLINE int begins(struct walk *walk, struct direction *way) {
    struct connection *connection = walk->connection;
    struct bpf_tcp_sock *tcp = tcp_of(walk->sk);
    if (tcp && walk->way == IN && !tcp->bytes_received && tcp->rcv_nxt != walk->seq) {
        total(GAPS);  // the first words come after the second
        connection->verdict = OTHER;
        return 0;
    }
    int first = tcp && (walk->way == IN ? !tcp->bytes_received
                                        : tcp->bytes_acked <= 1 && tcp->snd_una == walk->seq);
    if (!first) {
        total(LATE);
        connection->verdict = OTHER;
        return 0;
    }
    way->followed = 1;
    way->next = walk->seq;
    if (!connection->role && is_preface(walk)) {
        connection->role = walk->way == OUT ? CLIENT : SERVER;
        connection->verdict = FOLLOWED;
        way->next += PREFACE_BYTES;
    } else if (!is_settings(walk) ||
               (!connection->role && connection->ways[(walk->way ^ 1) & 1].followed)) {
        connection->verdict = OTHER;
        return 0;
    }
    return 1;
}

INLINE void segment(struct packet *skb, void *sk, u32 ip, u32 way) {
    u8 head[16];
    if (load_bytes(skb, ip, head, 16))
        return;
    u16 from = head[0] << 8 | head[1], to = head[2] << 8 | head[3];
    struct walk walk = {
        .skb = skb,
        .sk = sk,
        .way = way,
        .seq = (u32)head[4] << 24 | head[5] << 16 | head[6] << 8 | head[7],
        .at = ip + (head[12] >> 4) * 4,
    };
    if (skb->len <= walk.at)
        return;
    walk.len = skb->len - walk.at;
    struct connection *connection = storage_get(&connections, sk, 0, 0);
    if (!connection) {
        if (!every_port && !map_lookup(&watched_ports, &from) && !map_lookup(&watched_ports, &to))
            return;
        connection = storage_get(&connections, sk, 0, STORAGE_CREATE);
        if (!connection)
            return;
    }
    if (connection->verdict == OTHER)
        return;
    walk.connection = connection;
    struct direction *direction = &connection->ways[way & 1];
    if (!direction->followed) {
        if (!begins(&walk, direction))
            return;
        if (connection->role)
            connection->port = (connection->role == CLIENT) == (way == OUT) ? to : from;
    }
    if (loop(STEPS, step, &walk, 0) >= STEPS)
        give_up(&walk);
}

INLINE void datagram(struct packet *skb, void *sk, u32 udp, u32 six, u32 way) {
    u8 head[8 + DNS_HEAD];
    if (load_bytes(skb, udp, head, sizeof(head)))
        return;
    u16 from = head[0] << 8 | head[1], to = head[2] << 8 | head[3];
    if (from != DNS_PORT && to != DNS_PORT)
        return;
    u32 answer = head[10] >> 7;
    if (head[10] & 0x78 || (answer ? from : to) != DNS_PORT)  // not a plain question
        return;
    struct event *event = begin(skb, sk, answer ? ANSWER : QUERY);
    if (!event)
        return;
    u32 address = 0;  // a server's socket hears the same number from many
    load_bytes(skb, six ? (answer ? 36 : 20) : (answer ? 16 : 12), &address, sizeof(address));
    event->left = address * 0x9E3779B1u + (answer ? to : from);
    event->stream = head[8] << 8 | head[9];
    event->number = 0;
    event->port = DNS_PORT;
    event->role = (way == OUT) == !answer ? CLIENT : SERVER;
    event->flags = head[11] & 15;
    submit(event);
}

INLINE int look(struct packet *skb, u32 way) {
    void *sk = (void *)skb->sk;
    if (!sk)
        return 1;
    sk = full_sock(sk);
    if (!sk)
        return 1;
    u8 head[20];
    if (load_bytes(skb, 0, head, sizeof(head)))
        return 1;
    u32 six = head[0] >> 4 == 6, at = six ? 40 : (head[0] & 15) * 4;
    u32 protocol = six ? head[6] : head[9];
    if (protocol == PROTO_TCP)
        segment(skb, sk, at, way);
    else if (protocol == PROTO_UDP)
        datagram(skb, sk, at, six, way);
    return 1;
}

SEC("cgroup_skb/ingress") int calls_in(struct packet *skb) { return look(skb, IN); }
SEC("cgroup_skb/egress") int calls_out(struct packet *skb) { return look(skb, OUT); }

char _license[] SEC("license") = "Dual MIT/GPL";

// What the kernel's side and the reader share. Twin: domain/layout.py, which checks `LAYOUT`.
#pragma once
#include "histogram.bpf.h"

#define LAYOUT 5  // raise it with every change of what lies in maps, socket_state included
#define SLOTS 256  // the loader may ask for more, up to the 65,536 that a socket can tell apart
#define PENDING 8  // arrivals and sends that a socket remembers

enum role { CLIENT = 1, SERVER = 2 };
enum histogram_id { RTT, RTT_MIN, CONNECT, RECEIVE_QUEUE, ACK, TURNAROUND, HISTOGRAMS };
enum counter_id {
    RECEIVES,          // reads that got something
    SENDS,
    RETRANSMITS,       // segments
    RESETS,            // received
    OPENS,             // connects begun (client) or connections made by a handshake (server)
    ESTABLISHED,
    CONNECTS_FAILED,
    CLOSED,
    DROPS,             // datagrams that found no room in the receive buffer
    ARRIVALS_UNTIMED,  // a ninth unread arrival, or one nobody told: counted, not guessed
    SENDS_UNTIMED,     // a ninth unacknowledged send
    ADOPTED,           // connections older than the probe
    ABORTS,            // connections cut off while they stood, by either end: a reset, no farewell
    COUNTERS = 16,
};
enum total_id { SLOTS_FULL, STORAGE_FAILED, EVENTS_LOST, STALE, TOTALS = 8 };

struct key {
    u64 cgroup;
    u32 netns;
    u16 port;  // the server's; 0: a client's own, which nobody chose
    u8 protocol;
    u8 role : 4, bank : 4;  // bank 1: what a canary counted
};
struct slot {
    struct key key;
    u32 generation;  // raised when the slot is freed; sockets that remember an older one are stale
    u32 taken;
    u64 born_ns;
    u64 counters[COUNTERS];
    struct histogram histograms[HISTOGRAMS];
};
enum event_kind { SLOW = 1, RETRANSMIT = 2, NEW_SLOT = 3 };
struct event {
    u64 cookie;
    u64 at_ns;
    u64 value_ns;  // the round trip; of a retransmit the segments
    u64 cgroup;
    u32 slot;
    u32 kind;
};
struct config {
    u64 window_ns;  // of the least round trip
    u64 slow_ns;    // round trips above it are events; 0: none
    u64 pods_root;  // id of the cgroup above all pods; what is below it is watched
    u32 adopt;      // also take connections older than the probe
    u32 full;       // 0: the programs of the level `full` return at once; raised when it is on again
    u32 every_cgroup;
    u32 every_port;
    u32 old_hooks;  // arrivals are seen by tcp_probe, reads by tcp_rcv_space_adjust
};

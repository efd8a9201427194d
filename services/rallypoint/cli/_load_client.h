/* One player of the load: what it has heard, what it sends, and what is counted of it. */
#ifndef RALLYPOINT_LOAD_CLIENT_H
#define RALLYPOINT_LOAD_CLIENT_H

#include <errno.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

#include "_load_wire.h"

enum { MAX_UNACKED = 8, MAX_INPUT_BYTES = 64, SENT_RING = 64, SLOT_NS = 1000000 };
enum { BUCKET_US = 100, BUCKETS = 20001 }; /* of 0.1 ms; the last holds what took 2 s and more */

enum Fault {
    STREAM_BROKEN, STREAM_ENDED, INPUT_FAILED, ROOM_CLOSED, KICKED, DELTA_LOST, MALFORMED,
    SEND_FAILED, CONNECT_FAILED, FAULTS
};
static const char *const FAULT_NAMES[FAULTS] = {
    "STREAM_BROKEN", "STREAM_ENDED", "INPUT_FAILED", "ROOM_CLOSED", "KICKED", "DELTA_LOST",
    "MALFORMED", "SEND_FAILED", "CONNECT_FAILED"
};

/* Everything only grows: whoever measures takes the difference of two looks. */
typedef struct {
    uint64_t frames, frame_bytes, keyframes;
    uint64_t inputs, input_calls, answers, echoes;
    uint64_t bytes_down, bytes_up, bytes_answers;
    uint64_t late_slots, slots;
    uint64_t faults[FAULTS];
    uint64_t echo[BUCKETS];
} Counts;

enum { WORDS_BYTES = 200 };

enum Transport { GRPC_WEB, WEBSOCKET, COLYSEUS, RAW };
enum Phase { OPENING, JOINING, PLAYING, OVER };

typedef struct {
    enum Transport transport;
    const uint8_t *inputs; /* packed inputs, `input_size` bytes each, used in turn */
    size_t input_size, input_count;
    uint32_t send_hz;
    /* Nobody sends more than the first input, which costs more than others, so that servers have
     * time for those who join. */
    int quiet;
    Counts counts;
    uint64_t playing, over; /* clients between their first keyframe and their end; ended ones */
    char words[WORDS_BYTES]; /* of the first refusal, for whoever has to find out */
} Shared;

typedef struct Client {
    int down, up; /* the stream's socket and the inputs'; the same one for a WebSocket */
    enum Phase phase;
    uint32_t number, slot, rows;
    Http http;
    Bytes heard;   /* of the stream: what is not yet a whole message */
    Bytes answer;  /* of an input call */
    Bytes head;    /* of an input call, up to the number of its content-length */
    Bytes token;
    Bytes first;   /* what opens a WebSocket's stream once it is up */
    Bytes unsent;
    uint32_t stream_id;
    uint32_t tick;
    uint64_t ack, seq; /* the last acknowledged and the last made */
    int asking, waiting; /* an input call is under way; an input came meanwhile */
    int64_t sent_ns[SENT_RING];
    uint32_t pattern; /* where in the inputs its next one is */
} Client;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fail(Shared *s, Client *c, enum Fault fault)
{
    if (c->phase == OVER)
        return;
    s->counts.faults[fault]++;
    if (c->phase == PLAYING)
        s->playing--;
    s->over++;
    c->phase = OVER;
}

/* Keep what the server said with its refusal: the first one of all. */
static void quote(Shared *s, const uint8_t *lines, size_t len)
{
    const uint8_t *at = memmem(lines, len, "grpc-status:", 12);
    if (!at || s->words[0])
        return;
    size_t size = len - (size_t)(at - lines);
    size = size < WORDS_BYTES - 1 ? size : WORDS_BYTES - 1;
    for (size_t n = 0; n < size; n++)
        s->words[n] = at[n] >= ' ' && at[n] <= '~' ? (char)at[n] : ' ';
}

/* --- up --- */

static int send_all(Shared *s, Client *c, const uint8_t *data, size_t len)
{
    ssize_t sent = c->unsent.len ? 0 : send(c->up, data, len, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        fail(s, c, SEND_FAILED);
        return -1;
    }
    if (sent < 0)
        sent = 0;
    s->counts.bytes_up += len;
    return (size_t)sent < len ? bytes_add(&c->unsent, data + sent, len - sent) : 0;
}

/* What a full socket did not take; tried again at each of the client's turns. */
static void send_rest(Shared *s, Client *c)
{
    ssize_t sent = send(c->up, c->unsent.data, c->unsent.len, MSG_NOSIGNAL);
    if (sent > 0)
        bytes_drop(&c->unsent, (size_t)sent);
    else if (errno != EAGAIN)
        fail(s, c, SEND_FAILED);
}

/* SendInputRequest with all inputs not acknowledged, as docs/wire.md §4 has it. */
static size_t input_request(const Shared *s, const Client *c, uint8_t *to)
{
    uint64_t first = c->ack + 1;
    if (c->seq >= MAX_UNACKED && first < c->seq - MAX_UNACKED + 1)
        first = c->seq - MAX_UNACKED + 1;
    uint8_t *at = to;
    *at++ = 0x0a;
    at = put_varint(at, c->token.len);
    memcpy(at, c->token.data, c->token.len);
    at += c->token.len;
    *at++ = 0x10;
    at = put_varint(at, c->tick);
    *at++ = 0x18;
    at = put_varint(at, first);
    for (uint64_t seq = first; seq <= c->seq; seq++) {
        *at++ = 0x22;
        at = put_varint(at, s->input_size);
        memcpy(at, s->inputs + (c->pattern + seq) % s->input_count * s->input_size, s->input_size);
        at += s->input_size;
    }
    return (size_t)(at - to);
}

static void post_inputs(Shared *s, Client *c)
{
    uint8_t body[4096], call[8192];
    size_t size = input_request(s, c, body);
    size_t at = c->head.len;
    memcpy(call, c->head.data, at);
    at += (size_t)sprintf((char *)call + at, "%zu\r\n\r\n", size + 5);
    call[at++] = 0;
    for (int shift = 24; shift >= 0; shift -= 8)
        call[at++] = (uint8_t)(size >> shift);
    memcpy(call + at, body, size);
    c->asking = 1;
    s->counts.input_calls++;
    send_all(s, c, call, at + size);
}

static void ws_inputs(Shared *s, Client *c);

/* Its turn: make the next input and send it, or leave it to the end of the call under way. */
static void make_input(Shared *s, Client *c)
{
    if (c->phase != PLAYING || (s->quiet && c->seq))
        return;
    if (c->unsent.len)
        send_rest(s, c);
    c->seq++;
    c->sent_ns[c->seq % SENT_RING] = now_ns();
    s->counts.inputs++;
    if (s->transport == GRPC_WEB) {
        if (c->asking)
            c->waiting = 1;
        else
            post_inputs(s, c);
    } else if (s->transport == RAW) {
        s->counts.input_calls++;
        send_all(s, c, s->inputs, s->input_size);
    } else {
        ws_inputs(s, c);
    }
}

/* Bytes on the inputs' connection: answers, one at a time. */
static void hear_answer(Shared *s, Client *c, const uint8_t *data, size_t len)
{
    s->counts.bytes_answers += len;
    if (s->transport == RAW) {
        s->counts.answers++;
        return;
    }
    if (c->answer.len || !c->asking) {
        if (bytes_add(&c->answer, data, len))
            return;
        data = c->answer.data;
        len = c->answer.len;
    }
    size_t head = head_length(data, len);
    long body = head ? line_number(data, head, "content-length:") : 0;
    if (!head || len < head + (size_t)(body < 0 ? 0 : body)) {
        if (!c->answer.len)
            bytes_add(&c->answer, data, len);
        return;
    }
    int good = head_status(data, head) == 200 && body > 0 &&
               line_number(data + head, (size_t)body, "grpc-status:") == 0;
    if (!good) {
        quote(s, data, head + (size_t)(body < 0 ? 0 : body));
        s->counts.faults[INPUT_FAILED]++;
    }
    c->answer.len = 0;
    c->asking = 0;
    s->counts.answers++;
    if (c->waiting && c->phase == PLAYING) {
        c->waiting = 0;
        post_inputs(s, c);
    }
}

/* --- down --- */

static void acknowledge(Shared *s, Client *c, unsigned low)
{
    uint64_t ack = widen(c->ack, low);
    if (ack == c->ack)
        return;
    int64_t now = now_ns();
    for (uint64_t seq = c->ack + 1; seq <= ack && seq <= c->seq; seq++) {
        int64_t *sent = &c->sent_ns[seq % SENT_RING];
        if (*sent && seq + SENT_RING > c->seq) {
            int64_t bucket = (now - *sent) / (BUCKET_US * 1000);
            s->counts.echo[bucket < BUCKETS - 1 ? bucket : BUCKETS - 1]++;
            s->counts.echoes++;
            *sent = 0;
        }
    }
    c->ack = ack;
    if (c->seq < ack)
        c->seq = ack;
}

enum { OWNER = 4 }; /* a table's visibility */

static void hear_schema(Client *c, Reader schema)
{
    Field table, field;
    while (read_field(&schema, &table)) {
        uint64_t id = 0, rows = 0, visibility = 0;
        if (table.number != 1 || table.wire != 2)
            continue;
        while (read_field(&table.inner, &field)) {
            if (field.number == 1)
                id = field.value;
            if (field.number == 3)
                rows = field.value;
            if (field.number == 5)
                visibility = field.value;
        }
        if (id == 0)
            c->rows = visibility == OWNER ? 1 : (uint32_t)rows;
    }
}

static void hear_welcome(Shared *s, Client *c, Reader welcome)
{
    Field f;
    c->slot = 0;
    c->token.len = 0;
    while (read_field(&welcome, &f)) {
        switch (f.number) {
        case 2:
            c->slot = (uint32_t)f.value;
            break;
        case 3:
            bytes_add(&c->token, f.inner.at, (size_t)(f.inner.end - f.inner.at));
            break;
        case 6:
            hear_schema(c, f.inner);
            break;
        case 8:
            s->send_hz = (uint32_t)f.value;
            break;
        case 13:
            c->ack = c->seq = f.value;
        }
    }
    if (c->rows == 1)
        c->slot = 0; /* the seat's row is its only one */
    if (welcome.at < welcome.end || !c->token.len || c->token.len > 512 || c->slot >= c->rows)
        fail(s, c, MALFORMED);
}

static void hear_frame(Shared *s, Client *c, Reader frame)
{
    Glance seen;
    if (!glance_frame(frame, c->rows, c->slot, &seen)) {
        fail(s, c, MALFORMED);
        return;
    }
    if (seen.base && seen.base != c->tick) {
        fail(s, c, DELTA_LOST);
        return;
    }
    s->counts.frames++;
    s->counts.keyframes += seen.base == 0;
    c->tick = (uint32_t)seen.tick;
    if (seen.ack >= 0 || !seen.base)
        acknowledge(s, c, seen.ack < 0 ? 0 : (unsigned)seen.ack);
    if (c->phase == JOINING) {
        c->phase = PLAYING;
        s->playing++;
    }
}

static void hear_control(Shared *s, Client *c, Reader control)
{
    Field f;
    while (read_field(&control, &f)) {
        if (f.number == 1 && f.value == 1)
            fail(s, c, ROOM_CLOSED);
        if (f.number == 1 && (f.value == 3 || f.value == 5))
            fail(s, c, KICKED);
    }
}

/* One JoinResponse. */
static void hear_message(Shared *s, Client *c, const uint8_t *data, size_t len)
{
    Reader message = {data, data + len};
    Field f;
    while (read_field(&message, &f)) {
        if (f.wire != 2) {
            fail(s, c, MALFORMED);
            return;
        }
        if (f.number == 1)
            hear_welcome(s, c, f.inner);
        if (f.number == 2) {
            s->counts.frame_bytes += len;
            hear_frame(s, c, f.inner);
        }
        if (f.number == 3)
            hear_control(s, c, f.inner);
    }
    if (message.at < message.end)
        fail(s, c, MALFORMED);
}

/* Whole gRPC-Web frames out of `data`; how many bytes they were. */
static size_t hear_frames(Shared *s, Client *c, const uint8_t *data, size_t len)
{
    size_t at = 0;
    while (len - at >= 5 && c->phase != OVER) {
        const uint8_t *p = data + at;
        size_t size = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
        if (len - at - 5 < size)
            break;
        if (p[0] & 0x80) {
            quote(s, p + 5, size);
            fail(s, c, STREAM_ENDED);
        } else {
            hear_message(s, c, p + 5, size);
        }
        at += 5 + size;
    }
    return at;
}

/* A piece of the stream of gRPC-Web frames, cut anywhere. */
static void hear_piece(Shared *s, Client *c, const uint8_t *data, size_t len)
{
    if (!c->heard.len) {
        size_t used = hear_frames(s, c, data, len);
        bytes_add(&c->heard, data + used, len - used);
        return;
    }
    if (!bytes_add(&c->heard, data, len))
        bytes_drop(&c->heard, hear_frames(s, c, c->heard.data, c->heard.len));
}

/* Bytes of a response to Join: its head, then chunks of gRPC-Web frames. */
static void hear_http(Shared *s, Client *c, const uint8_t *data, size_t len)
{
    const uint8_t *span;
    size_t size;
    if (c->phase == OPENING) {
        bytes_add(&c->heard, data, len);
        size_t head = head_length(c->heard.data, c->heard.len);
        if (!head)
            return;
        const uint8_t *answer = c->heard.data;
        if (head_status(answer, head) != 200 || line_number(answer, head, "grpc-status:") > 0) {
            quote(s, answer, head);
            fail(s, c, STREAM_ENDED);
            return;
        }
        c->phase = JOINING;
        c->http.state = memmem(c->heard.data, head, "chunked", 7) ? CHUNK_SIZE : PLAIN;
        Bytes rest = c->heard;
        c->heard = (Bytes){0};
        hear_http(s, c, rest.data + head, rest.len - head);
        bytes_free(&rest);
        return;
    }
    while (len && c->phase != OVER) {
        long used = dechunk(&c->http, data, len, &span, &size);
        if (used < 0) {
            fail(s, c, MALFORMED);
            return;
        }
        if (size)
            hear_piece(s, c, span, size);
        data += used;
        len -= (size_t)used;
    }
}

#endif

/* Players on a WebSocket: RFC 6455 as a client speaks it, and on it docs/wire.md §8. */
#ifndef RALLYPOINT_LOAD_WS_H
#define RALLYPOINT_LOAD_WS_H

#include "_load_client.h"
#include "_load_colyseus.h"

enum { WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };
enum { CALL_JOIN = 1, CALL_INPUT = 2 };

static void ws_send(Shared *s, Client *c, int opcode, const uint8_t *data, size_t len)
{
    /* The mask need not be secret here, but the server has to take it off as it would any. */
    const uint8_t mask[4] = {0x5a, (uint8_t)c->number, 0xc3, (uint8_t)c->seq};
    uint8_t frame[8192];
    size_t at = 0;
    if (len > sizeof frame - 8)
        return;
    frame[at++] = (uint8_t)(0x80 | opcode);
    if (len < 126) {
        frame[at++] = (uint8_t)(0x80 | len);
    } else {
        frame[at++] = 0x80 | 126;
        frame[at++] = (uint8_t)(len >> 8);
        frame[at++] = (uint8_t)len;
    }
    memcpy(frame + at, mask, 4);
    at += 4;
    for (size_t n = 0; n < len; n++)
        frame[at + n] = data[n] ^ mask[n & 3];
    send_all(s, c, frame, at + len);
}

static size_t put_frame(uint8_t *to, uint8_t flag, const uint8_t *data, size_t len)
{
    to[0] = flag;
    for (int n = 0; n < 4; n++)
        to[1 + n] = (uint8_t)(len >> (24 - 8 * n));
    if (len)
        memcpy(to + 5, data, len);
    return len + 5;
}

/* The inputs' lane: a head the first time, then bodies alone, and no answers but failures. */
static void lane_inputs(Shared *s, Client *c)
{
    uint8_t body[4096], message[8192];
    size_t size = input_request(s, c, body), at = 1;
    message[0] = CALL_INPUT;
    if (!c->asking) {
        memcpy(message + at, c->head.data, c->head.len);
        at += c->head.len;
    }
    at += put_frame(message + at, 0, body, size);
    c->asking = 1;
    s->counts.input_calls++;
    ws_send(s, c, WS_BINARY, message, at);
}

static void ws_inputs(Shared *s, Client *c)
{
    if (s->transport == COLYSEUS)
        colyseus_input(s, c);
    else
        lane_inputs(s, c);
}

static void hear_call(Shared *s, Client *c, const uint8_t *data, size_t len)
{
    if (len && data[0] == CALL_JOIN) {
        if (hear_frames(s, c, data + 1, len - 1) != len - 1)
            fail(s, c, MALFORMED);
    } else if (len > 6) {
        quote(s, data + 6, len - 6);
        s->counts.faults[INPUT_FAILED]++;
    }
}

static void hear_ws_frame(Shared *s, Client *c, int opcode, const uint8_t *data, size_t len)
{
    if (opcode == WS_BINARY && s->transport == COLYSEUS)
        hear_colyseus(s, c, data, len);
    else if (opcode == WS_BINARY)
        hear_call(s, c, data, len);
    else if (opcode == WS_PING)
        ws_send(s, c, WS_PONG, data, len);
    else if (opcode == WS_CLOSE)
        fail(s, c, STREAM_ENDED);
}

/* Whole WebSocket frames out of `data`; how many bytes they were. Servers do not mask, and ours do
 * not cut messages into fragments. */
static size_t hear_ws_frames(Shared *s, Client *c, const uint8_t *data, size_t len)
{
    size_t at = 0;
    while (len - at >= 2 && c->phase != OVER) {
        const uint8_t *p = data + at;
        size_t size = p[1] & 0x7f, head = 2;
        if (!(p[0] & 0x80) || p[1] & 0x80) {
            fail(s, c, MALFORMED);
            break;
        }
        if (size == 126) {
            head = 4;
            if (len - at < head)
                break;
            size = (size_t)p[2] << 8 | p[3];
        } else if (size == 127) {
            head = 10;
            if (len - at < head)
                break;
            size = (size_t)p[6] << 24 | (size_t)p[7] << 16 | (size_t)p[8] << 8 | p[9];
        }
        if (len - at < head + size)
            break;
        hear_ws_frame(s, c, p[0] & 15, p + head, size);
        at += head + size;
    }
    return at;
}

/* Bytes of a WebSocket: the answer to the handshake, then frames, cut anywhere. */
static void hear_ws(Shared *s, Client *c, const uint8_t *data, size_t len)
{
    if (!c->heard.len && c->phase != OPENING) {
        size_t used = hear_ws_frames(s, c, data, len);
        bytes_add(&c->heard, data + used, len - used);
        return;
    }
    if (bytes_add(&c->heard, data, len))
        return;
    if (c->phase == OPENING) {
        size_t head = head_length(c->heard.data, c->heard.len);
        if (!head)
            return;
        if (head_status(c->heard.data, head) != 101) {
            quote(s, c->heard.data, head);
            fail(s, c, STREAM_ENDED);
            return;
        }
        bytes_drop(&c->heard, head);
        c->phase = JOINING;
        if (c->first.len)
            ws_send(s, c, WS_BINARY, c->first.data, c->first.len);
    }
    bytes_drop(&c->heard, hear_ws_frames(s, c, c->heard.data, c->heard.len));
}

#endif

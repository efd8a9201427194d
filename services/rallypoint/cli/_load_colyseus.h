/* Players of a Colyseus 0.18 room, to compare with (loadtest/peers/colyseus): on a WebSocket,
 * [10 …] joins and wants [10] back, [14 …] is the whole state, [15 …] a patch; with the bit 0x80
 * set, a clock and the number of the last input consumed come first. Patches are not decoded. */
#ifndef RALLYPOINT_LOAD_COLYSEUS_H
#define RALLYPOINT_LOAD_COLYSEUS_H

#include "_load_client.h"

enum { COL_JOIN = 10, COL_ERROR = 11, COL_STATE = 14, COL_PATCH = 15, COL_TIMED = 0x80 };
enum { COL_HZ = 20, COL_PREFIX = 9 };

static void ws_send(Shared *s, Client *c, int opcode, const uint8_t *data, size_t len);

static void colyseus_input(Shared *s, Client *c)
{
    size_t at = (c->pattern + c->seq) % s->input_count;
    s->counts.input_calls++;
    ws_send(s, c, 2, s->inputs + at * s->input_size, s->input_size);
}

static void hear_colyseus(Shared *s, Client *c, const uint8_t *data, size_t len)
{
    const uint8_t joined = COL_JOIN;
    int code = len ? data[0] & 31 : 0;
    if (code == COL_JOIN)
        ws_send(s, c, 2, &joined, 1);
    if (code == COL_ERROR)
        fail(s, c, STREAM_ENDED);
    if (code != COL_STATE && code != COL_PATCH)
        return;
    s->send_hz = COL_HZ;
    s->counts.frames++;
    s->counts.frame_bytes += len;
    s->counts.keyframes += code == COL_STATE;
    if (data[0] & COL_TIMED && len >= COL_PREFIX)
        acknowledge(s, c, data[5] | (unsigned)data[6] << 8);
    if (c->phase == JOINING) {
        c->phase = PLAYING;
        s->playing++;
    }
}

#endif

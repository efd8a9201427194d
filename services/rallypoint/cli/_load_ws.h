/* Players on a WebSocket. */
#ifndef RALLYPOINT_LOAD_WS_H
#define RALLYPOINT_LOAD_WS_H

#include "_load_client.h"

static void ws_inputs(Shared *s, Client *c)
{
    (void)s;
    (void)c;
}

static void hear_ws(Shared *s, Client *c, const uint8_t *data, size_t len)
{
    (void)data;
    (void)len;
    fail(s, c, MALFORMED);
}

#endif

/* The floor: the sends and reads of a server and nothing else, to know what the kernel costs.
 *
 * Every 5 ms a tenth of the streams gets a frame of so many bytes, and what has come in is read
 * and, where answers are wanted, answered. No parsing, no state, no memory touched. */
#ifndef RALLYPOINT_LOAD_FLOOR_H
#define RALLYPOINT_LOAD_FLOOR_H

#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "_load_client.h"

typedef struct {
    int listener;
    uint32_t streams, sockets; /* each client has one, or two when inputs have their own */
    size_t frame_bytes, answer_bytes;
    uint32_t frame_hz;
    double seconds;
} FloorSpec;

typedef struct {
    uint64_t frames, reads, answers, failed;
    double cpu_s, seconds;
} FloorResult;

static double thread_cpu_s(void)
{
    struct rusage used;
    getrusage(RUSAGE_THREAD, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* Takes all connections; the first byte of each says whether it is a stream ('D') or not. */
static int floor_accept(const FloorSpec *spec, int epoll, int *streams)
{
    uint32_t found = 0;
    for (uint32_t n = 0; n < spec->sockets; n++) {
        struct pollfd ready = {spec->listener, POLLIN, 0};
        if (poll(&ready, 1, 10000) != 1)
            return -1;
        char what;
        int fd = accept4(spec->listener, NULL, NULL, 0);
        if (fd < 0 || recv(fd, &what, 1, MSG_WAITALL) != 1)
            return -1;
        if (what == 'D' && found < spec->streams)
            streams[found++] = fd;
        struct epoll_event event = {EPOLLIN, {.fd = fd}};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
            return -1;
    }
    return found == spec->streams ? 0 : -1;
}

static void floor_read(const FloorSpec *spec, int epoll, const uint8_t *bytes, FloorResult *result)
{
    static uint8_t heard[65536];
    struct epoll_event events[512];
    int n;
    do {
        n = epoll_wait(epoll, events, 512, 0);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            ssize_t got = recv(fd, heard, sizeof heard, MSG_DONTWAIT);
            if (got <= 0) {
                epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
                continue;
            }
            result->reads++;
            if (spec->answer_bytes) {
                ssize_t sent =
                    send(fd, bytes, spec->answer_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
                result->answers += sent > 0;
                result->failed += sent <= 0;
            }
        }
    } while (n == 512);
}

/* Serves for `seconds` after everybody has come; -1 when not everybody did. */
static int floor_serve(const FloorSpec *spec, FloorResult *result)
{
    enum { CYCLE_NS = 5000000 };
    static uint8_t bytes[65536];
    uint32_t cycles = 1000000000 / CYCLE_NS / spec->frame_hz, at = 0;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int *streams = calloc(spec->streams, sizeof *streams);
    memset(result, 0, sizeof *result);
    if (floor_accept(spec, epoll, streams)) {
        close(epoll);
        free(streams);
        return -1;
    }
    double cpu_s = thread_cpu_s();
    int64_t began = now_ns(), due = began;
    while (now_ns() - began < (int64_t)(spec->seconds * 1e9)) {
        for (uint32_t n = at++ % cycles; n < spec->streams; n += cycles) {
            ssize_t sent =
                send(streams[n], bytes, spec->frame_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
            result->frames += sent > 0;
            result->failed += sent <= 0;
        }
        floor_read(spec, epoll, bytes, result);
        due += CYCLE_NS;
        struct timespec until = {due / 1000000000, due % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
    result->cpu_s = thread_cpu_s() - cpu_s;
    result->seconds = (double)(now_ns() - began) / 1e9;
    close(epoll);
    free(streams);
    return 0;
}

#endif

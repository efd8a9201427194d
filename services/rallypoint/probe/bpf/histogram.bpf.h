// Exponential histograms of base 2^(1/8): 256 buckets from 119 ns to 512 s, the ones of OTLP scale 3
// (bucket 0 is index -184) and of Prometheus' native schema 3. Twin: domain/histogram.py.
#pragma once
#include "kernel.bpf.h"

#define BUCKETS 256

struct histogram {
    u64 sum_ns;
    u64 buckets[BUCKETS];
};

// The highest whole nanosecond of each bucket; the loader writes the table before it loads us.
const volatile u64 bucket_ends[BUCKETS];

// By the highest bit and the four bits after it: buckets are wider than such a sixteenth of an
// octave, so the value is in the sixteenth's first bucket or the next, and the table tells which.
// No branch on the way: half of them would be mispredicted.
#define FIRST_BITS 7  // what is shorter than 2^7 ns is in the first bucket
#define LAST_BITS 39  // what is 2^39 ns or longer is in the last
#define SIXTEENTHS 0x7777665554332210ULL  // the first bucket of each within its octave

CHECKED_ONCE u32 bucket(u64 ns) {
    u64 octave = 0, left = ns >> FIRST_BITS;
    if (!left)
        return 0;
    if (ns >> LAST_BITS)
        return BUCKETS - 1;
#pragma unroll
    for (u64 bits = 16; bits; bits /= 2) {
        u64 room = (1ULL << bits) - 1 - left;
        asm volatile("" : "+r"(room));  // else the compiler makes the branch
        u64 step = (room >> 63) * bits;  // of the sign: has it more bits than `bits`?
        left >>= step;
        octave += step;
    }
    u64 sixteenth = ns >> (octave + FIRST_BITS - 4) & 15;
    u64 at = (8 * octave + (SIXTEENTHS >> 4 * sixteenth & 15)) & (BUCKETS - 1);
    return at + ((bucket_ends[at] - ns) >> 63);
}

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
// Searching it is as quick as a logarithm, which BPF does not have either, and never off by one.
// The sign of a difference is the step's mask: half of such branches would be mispredicted.
const volatile u64 bucket_ends[BUCKETS];

CHECKED_ONCE u32 bucket(u64 ns) {
    u64 at = 0;
    if (ns >> 62)
        return BUCKETS - 1;
#pragma unroll
    for (u64 step = BUCKETS / 2; step; step /= 2)
        at += step & ((s64)(bucket_ends[(at + step - 1) & (BUCKETS - 1)] - ns) >> 63);
    return at & (BUCKETS - 1);
}

"""The node probe: what the sockets of every pod wait for, measured in the kernel.

    bpf/          the programs (C, compiled by clang where they run or into the image)
    domain/       buckets, layouts, names of cgroups: pure
    build, libbpf, rights       the compiler; the one binding to libbpf; capabilities and seccomp
    loader        the process with rights: loads, attaches, hands the descriptors over
    session       the process without: reads the slots and the ring
    cluster, conditions         the Kubernetes API: names of pods; NetworkHealthy

It may import kit and kube and nothing else of ours; nobody imports it but the CLI.
"""

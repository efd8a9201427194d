"""What a Kubernetes client decides, without I/O: values in, values out; no clock, no socket."""

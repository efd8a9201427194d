"""Tests on a real Kubernetes API server (tests/support/kubernetes.py)."""

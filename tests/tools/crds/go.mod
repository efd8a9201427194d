module rallypoint.dev/tests/crds

// Nothing is built of these: their CRDs, as files, are what the chart's objects are checked with.
go 1.26.0

require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/kedacore/keda/v2 v2.21.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
	sigs.k8s.io/gateway-api v1.6.0
)

module zerogate.dev/tests/definitions

go 1.24

require (
	github.com/cert-manager/cert-manager v1.11.5
	github.com/openkruise/kruise v1.8.0
	sigs.k8s.io/gateway-api v1.3.0
	sigs.k8s.io/lws v0.7.0
)

// Package stack starts the whole gateway on this machine: an upstream, the
// control plane, and a real Traefik with the plugin in local mode. The
// end-to-end tests and `make demo` stand on it.
//
// Everything listens on loopback, on ports that were free a moment before, and
// every process ends with the one that started it.
package stack

// Package hashing computes the digest under which a table lists an API key: the
// lower-case hex of 64 bytes of SHAKE-256 (FIPS 202).
//
// Interpreted, a Keccak permutation costs about a hundred times what it costs
// compiled. So the digest comes from the host's own SHA-3 where that is linked
// in and gives known answers (host.go), and from interpreted code with a bounded
// cache where it is not (keccak.go, cache.go).
package hashing

import "crypto"

const (
	// rate is how many bytes of message SHAKE-256 takes in between two
	// permutations. SHA3-256 has the same rate.
	rate = 136
	// size is the length of a digest in bytes.
	size = 64
)

// recent remembers what the interpreted permutation computed.
var recent = newCache(4096)

// Digest returns the digest of key. It may be called from any goroutine.
func Digest(key string) string {
	if hostAgrees {
		return hostDigest(key)
	}
	return interpretedDigest(key)
}

func interpretedDigest(key string) string {
	return recent.digest(key)
}

// Compiled reports whether digests come from the host's compiled SHA-3.
func Compiled() bool {
	return hostAgrees
}

var (
	// paddings has what makes a key of each length, modulo rate, whole blocks,
	// as SHAKE pads: the domain bits 1111 and the first bit of 10*1 in one byte,
	// its last bit in the last.
	paddings = make([]string, rate)
	// hostAgrees is settled once, when the package is loaded.
	hostAgrees bool
)

// Yaegi does not see that a variable's initializer reaches another variable
// through a function, as givesKnownAnswers reaches knownAnswers: it would run
// with no answers to give and agree to anything. An init function runs after all
// variables.
func init() {
	for length := range paddings {
		padding := make([]byte, rate-length)
		padding[0] = 0x1f
		padding[len(padding)-1] |= 0x80
		paddings[length] = string(padding)
	}
	hostAgrees = crypto.SHA3_256.Available() && givesKnownAnswers(hostDigest)
}

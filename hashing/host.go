package hashing

import (
	"crypto"
	"encoding"
	"encoding/hex"
	"strings"
)

// hostDigest computes a digest with the SHA3-256 that the host program links.
// Both absorb blocks of the same size, so feeding SHA3-256 whole blocks that are
// padded as SHAKE pads leaves SHAKE's output at the front of its state, and the
// marshalled form of a hash is that state behind five bytes of header.
//
// It panics where the host has none, or marshals it differently. The form is no
// promise of Go's, which is why givesKnownAnswers is asked before use.
func hostDigest(key string) string {
	sponge := crypto.SHA3_256.New()
	sponge.Write([]byte(key + paddings[len(key)%rate]))
	state, _ := sponge.(encoding.BinaryMarshaler).MarshalBinary()
	return hex.EncodeToString(state[stateHeader : stateHeader+size])
}

// stateHeader is how many bytes stand before the state of a marshalled SHA-3.
const stateHeader = 5

// knownAnswers has the lengths around which padding goes wrong, and the example
// of the readme.
var knownAnswers = []struct{ key, digest string }{
	{"", "46b9dd2b0ba88d13233b3feb743eeb243fcd52ea62b81b82b50c27646ed5762fd75dc4ddd8c0f200cb05019d67b592f6fc821c49479ab48640292eacb3b7c4be"},
	{strings.Repeat("k", 134), "05c43b012f8aac2de900c5c40c44349f62b1991884485b38ab5890ad5df13e732193894acd1fc09fcfcb22a4af053ad59516185d8e6f40d6405c6ad0b4ada024"},
	{strings.Repeat("k", 135), "8ac8f714d2619d2dfa490e5e03bbcf02280c86a2d320f5d1928d12a9690e2182aab3e60628d54bf30f0f38121aaec2ba5413f5e7464bec42cb2387ca7a26ca44"},
	{strings.Repeat("k", 136), "b27338a4ef4a94bd3e51b090d601de85223b25735ae5684ad67757b29834bd6f5ee88f0b507f213a72d3089776f323fc338f90f7d704bab7ab2c17f2982e0d73"},
	{strings.Repeat("k", 137), "2ecd0b12d4475f8c80abc698496e41d3c8860d468f06d9cadc7e868d2339e1c3599c379973a714cdb8ad94258fccc1809423c72a47b4f9890555f5729bde1806"},
	{"secret-api-key", "72bf16ddecb7a3ec04b5ce0296f85a0ab9d049105243b4b7924a340f26523e7d743e24126ced93e9dde63d1b4f73c242c5f0ed97cce394a5aee3ecdb3866d84f"},
}

// givesKnownAnswers reports whether digest computes SHAKE-256. A panic in it, as
// in hosts built with Go 1.23, counts as no.
func givesKnownAnswers(digest func(key string) string) (agrees bool) {
	defer func() {
		if recover() != nil {
			agrees = false
		}
	}()
	for _, known := range knownAnswers {
		if digest(known.key) != known.digest {
			return false
		}
	}
	return true
}

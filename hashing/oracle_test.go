//go:build !yaegi
// +build !yaegi

// Yaegi reads only the second form of the constraint.

package hashing

import (
	_ "crypto/sha3" // Links the host's SHA-3, as Traefik does.
	"encoding/hex"
	"math/rand"
	"strings"
	"testing"

	"golang.org/x/crypto/sha3"
)

// Yaegi cannot load x/crypto/sha3, so this file is for compiled tests alone.

func oracle(key string) string {
	sum := make([]byte, size)
	sha3.ShakeSum256(sum, []byte(key))
	return hex.EncodeToString(sum)
}

func check(t *testing.T, key string) {
	t.Helper()
	want := oracle(key)
	if got := Digest(key); got != want {
		t.Errorf("Digest(%q): got %s, want %s", key, got, want)
	}
	if got := hex.EncodeToString(interpretedSum(key)); got != want {
		t.Errorf("interpretedSum(%q): got %s, want %s", key, got, want)
	}
	if got := hostDigest(key); got != want {
		t.Errorf("hostDigest(%q): got %s, want %s", key, got, want)
	}
}

func TestOracle(t *testing.T) {
	if !Compiled() {
		t.Fatal("the host's SHA-3 is linked but does not give known answers")
	}
	random := rand.New(rand.NewSource(1))
	for n := 0; n < 600; n++ {
		key := make([]byte, n)
		random.Read(key)
		check(t, string(key))
	}
}

func FuzzDigest(f *testing.F) {
	f.Add("")
	f.Add("secret-api-key")
	f.Add("ключ\x00\xff")
	f.Add(strings.Repeat("k", 271))
	f.Fuzz(check)
}

package hashing

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

func TestDigestOfKnownAnswers(t *testing.T) {
	for _, known := range knownAnswers {
		if got := Digest(known.key); got != known.digest {
			t.Errorf("Digest(%d bytes): got %s, want %s", len(known.key), got, known.digest)
		}
	}
}

func TestInterpretedSumGivesKnownAnswers(t *testing.T) {
	digest := func(key string) string { return hex.EncodeToString(interpretedSum(key)) }
	if !givesKnownAnswers(digest) {
		t.Error("the interpreted permutation is not SHAKE-256")
	}
}

func TestHostAndInterpretedAgree(t *testing.T) {
	if !Compiled() {
		t.Log("this host links no SHA-3 that fits: nothing to compare")
		return
	}
	for n := 0; n <= 560; n += 7 {
		key := strings.Repeat("\xff", n)
		if got, want := hostDigest(key), hex.EncodeToString(interpretedSum(key)); got != want {
			t.Errorf("%d bytes: host says %s, interpreted says %s", n, got, want)
		}
	}
}

func TestKnownAnswersRefuse(t *testing.T) {
	for _, test := range []struct {
		name   string
		digest func(key string) string
	}{
		{"host without SHA-3", func(string) string { return "" }},
		{"host that panics", func(string) string { panic("no such hash") }},
		{"another hash", func(string) string { return strings.Repeat("0", 2*size) }},
		{"wrong on the last one only", func(key string) string {
			sum := interpretedSum(key)
			if key == "secret-api-key" {
				sum[0] ^= 1
			}
			return hex.EncodeToString(sum)
		}},
	} {
		if givesKnownAnswers(test.digest) {
			t.Errorf("%s: got accepted, want refused", test.name)
		}
	}
}

func TestCacheKeepsWhatIsUsed(t *testing.T) {
	c := newCache(3)
	want := c.digest("used")
	for i := 0; i < 20; i++ {
		c.digest(fmt.Sprint("unknown ", i))
		if got := c.digest("used"); got != want {
			t.Fatalf("after %d unknown keys: got %s, want %s", i+1, got, want)
		}
		if held := len(c.young) + len(c.old); held > 6 {
			t.Fatalf("after %d unknown keys the cache holds %d digests, want at most 6", i+1, held)
		}
	}
	if want != Digest("used") {
		t.Errorf("cached digest: got %s, want %s", want, Digest("used"))
	}
}

func TestCacheAnswersFromMemory(t *testing.T) {
	c := newCache(2)
	c.digest("a")
	for name := range c.young {
		c.young[name] = "remembered"
	}
	if got := c.digest("a"); got != "remembered" {
		t.Errorf("young entry: got %s, want remembered", got)
	}
	c.digest("b")
	c.digest("c") // The young generation is full: a and b are old now.
	if got := c.digest("a"); got != "remembered" {
		t.Errorf("old entry: got %s, want remembered", got)
	}
}

func BenchmarkDigest(b *testing.B) {
	b.Run("host", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			hostDigest("tg_0123456789abcdefghijklmnopqrstuvwxyz")
		}
	})
	b.Run("interpreted", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			interpretedSum("tg_0123456789abcdefghijklmnopqrstuvwxyz")
		}
	})
	b.Run("cached", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			recent.digest("tg_0123456789abcdefghijklmnopqrstuvwxyz")
		}
	})
}

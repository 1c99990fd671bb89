package hashing

import (
	"crypto/sha256"
	"encoding/hex"
	"sync"
)

// cache remembers digests by the SHA-256 of their keys, which is compiled
// everywhere, and so keeps no key. It holds digests, never decisions: revoking a
// key needs no invalidation.
//
// It has two generations of at most limit entries. A full young one becomes the
// old one, and what is used again moves back, so keys in use survive a flood of
// unknown ones.
type cache struct {
	limit int

	mu         sync.Mutex
	young, old map[[sha256.Size]byte]string
}

func newCache(limit int) *cache {
	return &cache{limit: limit, young: map[[sha256.Size]byte]string{}}
}

// digest returns the digest of key, computing it outside of the lock.
func (c *cache) digest(key string) string {
	name := sha256.Sum256([]byte(key))
	c.mu.Lock()
	digest, isYoung := c.young[name]
	if !isYoung {
		digest = c.old[name]
	}
	c.mu.Unlock()
	if isYoung {
		return digest
	}

	if digest == "" {
		digest = hex.EncodeToString(interpretedSum(key))
	}
	c.mu.Lock()
	if len(c.young) >= c.limit {
		c.old = c.young
		c.young = make(map[[sha256.Size]byte]string, c.limit)
	}
	c.young[name] = digest
	c.mu.Unlock()
	return digest
}

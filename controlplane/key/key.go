// Package key makes API keys and their digests.
//
// A key is "tg_", 28 random base62 digits (166 bits), and 6 base62 digits of a
// CRC-32 over all before them, so that a secret scanner can tell a key from
// other text, and a mistyped key from a real one, without asking anybody.
package key

import (
	"crypto/sha3"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// Prefix begins every key that New makes. Keys from elsewhere need not have it.
const Prefix = "tg_"

// DigestLen is the length of a digest, in hex digits.
const DigestLen = 2 * digestBytes

const (
	digestBytes    = 64
	randomDigits   = 28
	checksumDigits = 6 // 62^6 > 2^32
	base62         = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// ErrNotDigest says that a text is not a digest.
var ErrNotDigest = errors.New("not 128 hex digits")

// New returns a fresh key, drawn from random, which is crypto/rand.Reader
// outside of tests.
func New(random io.Reader) (string, error) {
	// Bytes from 248 on are drawn again: 248 is the largest multiple of 62 that
	// a byte can count to, so that every digit is equally likely.
	const usable = 256 / len(base62) * len(base62)
	digits := make([]byte, 0, randomDigits)
	for buf := make([]byte, randomDigits); len(digits) < randomDigits; {
		if _, err := io.ReadFull(random, buf); err != nil {
			return "", fmt.Errorf("drawing a key: %w", err)
		}
		for _, b := range buf {
			if int(b) < usable && len(digits) < randomDigits {
				digits = append(digits, base62[int(b)%len(base62)])
			}
		}
	}
	body := Prefix + string(digits)
	return body + checksum(body), nil
}

// Mistyped reports whether key has the form that New gives but not the checksum.
func Mistyped(key string) bool {
	if !strings.HasPrefix(key, Prefix) || len(key) < len(Prefix)+checksumDigits {
		return false
	}
	body := key[:len(key)-checksumDigits]
	return key != body+checksum(body)
}

func checksum(body string) string {
	var digits [checksumDigits]byte
	sum := crc32.ChecksumIEEE([]byte(body))
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = base62[sum%uint32(len(base62))]
		sum /= uint32(len(base62))
	}
	return string(digits[:])
}

// Digest returns what manifests and tables hold in place of a key: SHAKE-256
// with 64 bytes of output, in lower-case hex.
func Digest(key string) string {
	return hex.EncodeToString(sha3.SumSHAKE256([]byte(key), digestBytes))
}

// ParseDigest returns the digest that text holds, in lower case. Surrounding
// white space and the case of hex digits are forgiven; anything else is
// ErrNotDigest, which does not repeat the text: it may be a key.
func ParseDigest(text string) (string, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	if len(text) != DigestLen {
		return "", ErrNotDigest
	}
	if _, err := hex.DecodeString(text); err != nil {
		return "", ErrNotDigest
	}
	return text, nil
}

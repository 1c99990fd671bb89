package feed

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tollgate-apim/tollgate/table"
)

// errNotModified says that a server took for known what it never sent.
var errNotModified = errors.New("status 304 Not Modified without a table that came with that ETag, expected status 200 with a table")

// successor returns the snapshot that follows held, which may be nil, after an
// answer to a question of a poll that began at now; or an error that says why
// held stays.
func successor(held *Snapshot, q question, a answer, keys []ed25519.PublicKey, now time.Time) (*Snapshot, error) {
	if a.notModified {
		if held == nil || !sameTag(q.etag, a.etag) {
			return nil, errNotModified
		}
		next := *held
		next.Confirmed, next.From = now, q.endpoint
		return &next, nil
	}

	by, err := verify(keys, a.signatures, a.body)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(a.body)
	next := &Snapshot{Confirmed: now, sum: string(hash[:]), etag: a.etag, From: q.endpoint, proof: by}
	if held != nil && held.sum == next.sum {
		next.Table = held.Table
		next.partBytes = held.partBytes
		return next, nil
	}
	t, err := table.Decode(a.body)
	if err != nil {
		return nil, fmt.Errorf("the body (%d bytes, Content-Type %q) is no valid table: %w", len(a.body), a.contentType, err)
	}
	next.Table = t
	if err := follows(held, next); err != nil {
		return nil, err
	}
	return next, nil
}

// follows returns why next cannot replace held, which may be nil; nil if it can.
func follows(held, next *Snapshot) error {
	if held == nil || held.sum == next.sum {
		return nil
	}
	revision, last := next.Table.Revision, held.Table.Revision
	if revision < last {
		return fmt.Errorf("revision %d came after revision %d, expected a higher one: tables are not rolled back", revision, last)
	}
	if revision == last && held.sum != "" && !table.Restated(held.Table, next.Table) {
		return fmt.Errorf("revision %d came again with other content, expected a higher revision with it", revision)
	}
	return nil
}

// tagFor returns the tag by which an endpoint knows the table of s, which may be
// nil, or nothing if it may know another table by it: a tag is unique only where
// it was given. One that names the hash of the table means it everywhere, but a
// list of tags may have others in it.
func (s *Snapshot) tagFor(endpoint string) string {
	if s == nil || s.etag == "" {
		return ""
	}
	if s.From == endpoint || oneTag.MatchString(s.etag) && tagsHash(s.etag, s.sum) {
		return s.etag
	}
	return ""
}

// tagsHash says whether a tag has the SHA-256 sum, or the first half of it, in it.
func tagsHash(etag, sum string) bool {
	return len(sum) == sha256.Size && strings.Contains(etag, hex.EncodeToString([]byte(sum[:sha256.Size/2])))
}

// Inherited returns what a feed with these keys may take over from an older one,
// or nil.
func Inherited(last *Snapshot, keys []ed25519.PublicKey) *Snapshot {
	if last == nil || len(keys) == 0 {
		return last
	}
	if !last.proof.byAny(keys) {
		return nil
	}
	if last.proof.expected == joined(keys) {
		return last
	}
	// Its other signatures were not looked at, and soon may be the ones that
	// count. Without a tag it comes again, with all of them.
	next := *last
	next.etag = ""
	return &next
}

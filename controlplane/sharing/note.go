package sharing

import (
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/shares"
)

// maxTroubles is how many records that cannot be decoded are told of at a time.
const maxTroubles = 1_000

// troubles are what the log was told of and what has not passed since. They belong to
// who leads.
type troubles struct {
	since   time.Time       // the store does not answer; zero if it does
	full    bool            // there are as many gateways as can be
	records map[string]bool // keys of records that cannot be decoded
}

// noteStore tells when the store begins to fail, and when it works again.
func (s *Sharing) noteStore(err error) {
	t, now := &s.troubles, s.now()
	switch {
	case err != nil && t.since.IsZero():
		t.since = now
		s.log.Error("no shares of limits can be given: gateways use up what they hold", "error", err)
	case err == nil && !t.since.IsZero():
		s.log.Info("shares of limits are given again", "after", now.Sub(t.since).Round(time.Second).String())
		t.since = time.Time{}
	}
}

// noteRecord tells of a record that cannot be decoded, once, and that it can be again.
func (s *Sharing) noteRecord(key string, err error) {
	t := &s.troubles
	switch {
	case err == nil && t.records[key]:
		delete(t.records, key)
		s.log.Info("the store holds a record that can be read again", "key", key)
	case err != nil && !t.records[key] && len(t.records) < maxTroubles:
		if t.records == nil {
			t.records = map[string]bool{}
		}
		t.records[key] = true
		s.log.Error("the store holds a record that is none: no shares are given of it", "key", key, "error", err)
	}
}

// noteFull tells when there are more gateways than can share limits, and when that is
// over: some of them have gone.
func (s *Sharing) noteFull(full bool) {
	if !full && s.troubles.full && s.tenures.alive > shares.MaxTenures-shares.MaxTenures/16 {
		return
	}
	if full != s.troubles.full {
		s.troubles.full = full
		if full {
			s.log.Error("as many gateways share limits as can: others get no shares", "gateways", s.tenures.alive)
		} else {
			s.log.Info("further gateways can share limits again")
		}
	}
}
